"""Builds in a process of their own: the same engine, and every death an error in words that leaves nothing."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from onnx import helper

from exporters.trt.build import build_plan
from exporters.trt.platform import Platform
from exporters.trt.process import HOME, building
from exporters.trt.settings import BuildRequest
from scconv_deploy.errors import BuildError, CapabilityError, ScconvDeployError
from scconv_deploy.runtime.nvidia_driver import NoGpu
from scconv_deploy.tensorrt_options import TensorRTOptions
from tests.exporters.trt.fake_tensorrt import alive
from tests.exporters.trt.models import SILENCE, STATIC, conv_relu, model, rtx_platform
from tests.exporters.trt.test_watch import Recorder

ADA = ("sm_89",)


def test_the_engine_is_the_one_that_is_built_in_this_process(folder: Path) -> None:
    """Byte-identical across processes, which pins that RTX is deterministic; another option changes it."""
    data, request = conv_relu().SerializeToString(), BuildRequest(STATIC, ("sm_80", "sm_89"))
    here = build_plan(rtx_platform(), data, request, SILENCE)
    progress = Recorder()
    with building(rtx_platform(), folder) as process:
        there = process.plan(data, request, progress)
        again = process.plan(data, request, SILENCE)
        other = process.plan(
            data, BuildRequest(STATIC, ("sm_80", "sm_89"), TensorRTOptions(tf32=True)), SILENCE
        )
    with building(rtx_platform(), folder) as process:
        anew = process.plan(data, request, SILENCE)
    assert here.data == there.data == again.data == anew.data
    assert other.data != here.data
    assert (there.layers, there.settings, there.profile) == (here.layers, here.settings, here.profile)
    labels = list(dict.fromkeys(label for label, _ in progress.calls if label != "starting the build"))
    product = rtx_platform().product
    assert labels == ["loading TensorRT for RTX", "importing the graph", f"building with {product}"]
    assert progress.threads == {threading.get_ident()}


def test_the_child_imports_no_torch() -> None:
    rtx_platform()
    code = (
        "import sys, exporters.trt.child, exporters.trt.build, exporters.trt.messages, tensorrt_rtx; "
        "print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": HOME}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_what_the_builder_refuses_is_raised_here_as_it_was_there(folder: Path) -> None:
    broken = conv_relu()
    broken.graph.node[1].op_type = "Det"
    with (
        pytest.raises(BuildError, match=r"node 'layer1.0.conv2/Relu_1' \(Det"),
        building(rtx_platform(), folder) as process,
    ):
        process.plan(broken.SerializeToString(), BuildRequest(STATIC, ADA), SILENCE)
    assert not alive(process.pid)


def test_a_library_that_prints_does_not_disturb_the_replies(
    fake: Platform, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "works")
    with building(fake, folder) as process:
        plan = process.plan(b"", BuildRequest(()), SILENCE)
    assert plan.data == b"engine of "
    assert plan.settings["tf32"] is False


DEATHS = [
    (
        "abort",
        BuildError,
        r"died of SIGABRT while building with TensorRT 10.13; .*terminate called after throwing",
    ),
    ("abort in the parser", BuildError, r"SIGABRT while importing the graph; .*Parsing node: head/Plugin_7"),
    ("segfault", BuildError, "SIGSEGV"),
    ("exits", BuildError, "with exit code 7"),
    (
        "killed",
        CapabilityError,
        "was killed while building with TensorRT 10.13, most often because .* memory",
    ),
]


@pytest.mark.parametrize(("scenario", "kind", "words"), DEATHS)
def test_a_death_is_a_sentence(
    fake: Platform,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    kind: type[ScconvDeployError],
    words: str,
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", scenario)
    with pytest.raises(kind, match=words) as caught, building(fake, folder) as process:
        process.plan(b"", BuildRequest(()), SILENCE)
    assert "\n" not in str(caught.value)
    assert not alive(process.pid), "a zombie, or the process itself, was left behind"


def test_a_dead_process_answers_every_further_request_at_once(
    fake: Platform, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "exits")
    with building(fake, folder) as process:
        for _ in range(2):
            with pytest.raises(BuildError, match="with exit code 7"):
                process.plan(b"", BuildRequest(()), SILENCE)


def test_a_real_plugin_node_that_nobody_guarded_costs_an_error_and_not_this_process(folder: Path) -> None:
    """Trap 3 of design/tensorrt.md: on a plugin node the parser of the RTX wheel opens a library that the wheel
    does not ship. Without :func:`self_contained` before it, this is what is left of the guard."""
    node = helper.make_node("Mystery", ["x"], ["z"], name="head/Mystery_0", domain="elsewhere")
    data = model([node], (2, 3), (2, 3), domains=("elsewhere",)).SerializeToString()
    with (
        pytest.raises(BuildError, match=r"head/Mystery_0") as caught,
        building(rtx_platform(), folder) as process,
    ):
        process.plan(data, BuildRequest((), ADA), SILENCE)
    assert "TensorRT for RTX" in str(caught.value)
    assert not alive(process.pid)


FAILURES = [
    ("no driver", CapabilityError, "needs an NVIDIA driver for what was asked and finds none it can use"),
    ("GPU memory", CapabilityError, "ran out of the GPU's memory"),
    ("host memory", CapabilityError, "ran out of memory while it built"),
    (
        "no kernel",
        BuildError,
        r"refused the graph \(in layer1.0.scconv, layer1.0.scconv.cru\): .*Could not find",
    ),
    ("silent", BuildError, "it gave no reason"),
    ("deaf", BuildError, "did not take the setting refit=True: it reads back as False"),
    ("out of python memory", MemoryError, "no more"),
    ("python error", RuntimeError, "LookupError in the process that builds: a mistake in our own code"),
]


@pytest.mark.parametrize(("scenario", "kind", "words"), FAILURES)
def test_every_failure_of_the_platform_is_one_sentence(
    fake: Platform,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", scenario)
    request = BuildRequest((), options=TensorRTOptions(refit=scenario == "deaf"))
    with pytest.raises(kind, match=words) as caught, building(fake, folder) as process:
        process.plan(b"", request, SILENCE)
    assert "\n" not in str(caught.value)
    assert "/_src/" not in str(caught.value)


def test_a_module_that_only_this_process_can_import_is_a_missing_capability(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = cast(ModuleType, SimpleNamespace(__name__="tensorrt", __version__="10.13"))
    platform = Platform(module, NoGpu("none"), "")
    if "tensorrt" in sys.modules or any((Path(p) / "tensorrt").exists() for p in sys.path if p):
        pytest.skip("TensorRT is installed here, so it can be imported")
    with (
        pytest.raises(CapabilityError, match="tensorrt cannot be imported"),
        building(platform, folder) as process,
    ):
        process.plan(b"", BuildRequest(()), SILENCE)
