"""``--target openvino``: IR beside its graph, types read from the compiled model, PASS for every family."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporters import openvino_ir
from exporters.openvino_ir import OpenVINOExporter
from scconv_deploy import api, registry
from scconv_deploy.config import ExportConfig, Form, Precision, default_opset
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import BuildError, CapabilityError, InputError, VerificationError
from scconv_deploy.kernels import openvino_extension
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.stages import build
from scconv_deploy.verdicts import Verdict
from tests.stages.small import EXAMPLE, half_graph, network, ready

pytest.importorskip("openvino", reason="OpenVINO is not installed")

CONFIG = ExportConfig(target="openvino")
FAMILIES = ("F0", "F1", "F2", "F3")


def half(precision: Precision) -> ExportConfig:
    return ExportConfig(target="openvino", precision=precision, opset=default_opset(precision))


def test_the_registry_finds_it() -> None:
    exporter = registry.exporter("openvino")
    assert isinstance(exporter, OpenVINOExporter)
    assert exporter.check(CONFIG) == ()
    assert list(exporter.versions()) == ["openvino"]


def test_files_with_their_natural_names(tmp_path: Path) -> None:
    built = OpenVINOExporter().build(ready().graph, CONFIG, tmp_path, Silence())
    assert [p.name for p in built.files] == ["model.xml", "model.bin", "model.onnx"]
    assert {p.name for p in tmp_path.iterdir()} == {"model.xml", "model.bin", "model.onnx"}
    assert (built.runtime, built.precision_built, built.not_executed) == ("openvino", "fp32", None)
    with open_runner("openvino", built.primary) as ours, open_runner("onnxruntime", built.files[2]) as ort:
        given = {"image": EXAMPLE.numpy()}
        np.testing.assert_allclose(ours.run(given)["output"], ort.run(given)["output"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_types_are_those_of_the_compiled_model(precision: Precision, tmp_path: Path) -> None:
    built = build.run(OpenVINOExporter(), half_graph(precision), half(precision), tmp_path, Silence())
    if built.not_executed is not None:
        pytest.skip(built.not_executed)
    assert built.precision_built == precision.value
    roles = {"convolutions": precision.value, "gate": "fp32", "fuse": "fp32"}
    assert built.precision_per_block == {"2": roles}


def test_an_inference_precision_that_widens_the_gate_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin: OpenVINO's own hint computes the gate's float32 island in bf16."""
    from scconv_deploy.runtime import openvino as runtime

    class Hinted(runtime.OpenVINORunner):
        def __init__(self, artifact: Path) -> None:
            super().__init__(artifact, hint="bf16")

    graph = half_graph(Precision.BF16)
    if OpenVINOExporter().build(graph, half(Precision.BF16), tmp_path, Silence()).not_executed:
        pytest.skip("this CPU does not compute bf16 in OpenVINO")
    monkeypatch.setattr(runtime, "OpenVINORunner", Hinted)
    with pytest.raises(VerificationError, match="should be computed in fp32, and bf16 was built"):
        build.run(OpenVINOExporter(), graph, half(Precision.BF16), tmp_path, Silence())


def test_where_the_cpu_lacks_the_type_the_bundle_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scconv_deploy.runtime import openvino as runtime

    monkeypatch.setattr(runtime, "missing_types", lambda halves, device: "fp16")
    built = OpenVINOExporter().build(half_graph(Precision.FP16), half(Precision.FP16), tmp_path, Silence())
    assert built.not_executed is not None
    assert "computes in fp16, which OpenVINO" in built.not_executed
    assert built.precision_built == "fp16"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), scconv(family, 8), nn.BatchNorm2d(8))
    bundle = api.export(net.eval(), EXAMPLE, "openvino", out=tmp_path / "bundle")
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    with open_bundle(bundle.path, verify="golden") as engine:
        assert engine.run({engine.input_names[0]: EXAMPLE.numpy()})["output"].shape == (2, 8, 6, 6)
    assert api.verify(bundle.path).verdict is Verdict.PASS


def test_a_doubled_output_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = openvino_ir._write

    def doubled(graph: object, folder: Path) -> tuple[Path, ...]:
        import openvino as ov

        files = write(graph, folder)  # type: ignore[arg-type]
        model = ov.Core().read_model(files[0])
        import openvino.opset13 as opset

        result = model.get_results()[0]
        twice = opset.multiply(result.input_value(0), opset.constant(np.float32(2.0)))
        result.input_value(0).get_tensor().set_names(set())
        twice.output(0).get_tensor().set_names({"output"})
        result.input(0).replace_source_output(twice.output(0))
        ov.save_model(model, folder / "twice.xml", compress_to_fp16=False)
        (folder / "twice.xml").replace(files[0])
        (folder / "twice.bin").replace(files[1])
        return files

    monkeypatch.setattr(openvino_ir, "_write", doubled)
    with pytest.raises(VerificationError):
        api.export(network().eval(), EXAMPLE, "openvino", out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_outputs_that_share_a_value_keep_their_names(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = x * 2
            return {"first": y, "second": y, "given": x}

    bundle = api.export(Twice(), torch.randn(2, 3), "openvino", out=tmp_path / "bundle")
    with open_bundle(bundle.path) as engine:
        given = np.ones((2, 3), np.float32)
        got = engine.run({engine.input_names[0]: given})
    assert sorted(got) == ["first", "given", "second"]
    np.testing.assert_array_equal(got["second"], 2 * given)
    np.testing.assert_array_equal(got["given"], given)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here (not root, or in a container)")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_no_fault_of_the_graph(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2 and the sentence of every target, and nothing is left; the twin that does not ask blames OpenVINO."""
    with pytest.raises(InputError, match=r"the disk that holds .* is full; free some space"):
        api.export(network(), EXAMPLE, "openvino", out=tiny_disk / "bundle")
    monkeypatch.setattr(openvino_ir, "_write_as_much", lambda folder, size: None)
    with pytest.raises(BuildError, match="iostream error"):
        api.export(network(), EXAMPLE, "openvino", out=tiny_disk / "bundle")
    assert list(tiny_disk.iterdir()) == []


def test_a_refusal_to_write_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino as ov

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(ov, "save_model", refuse)
    with pytest.raises(BuildError, match=r"cannot write model\.xml: basic_ios"):
        OpenVINOExporter().build(ready().graph, CONFIG, tmp_path, Silence())
    assert list(tmp_path.iterdir()) == []


def test_without_openvino_exit_3_with_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        openvino_ir, "find_spec", lambda name: None if name == "openvino" else find_spec(name)
    )
    with pytest.raises(CapabilityError, match=r'pip install "scconv-deploy\[openvino\]"') as caught:
        OpenVINOExporter().check(CONFIG)
    assert caught.value.exit_code == 3


def test_precisions_it_does_not_build() -> None:
    with pytest.raises(InputError, match="fp32, fp16, bf16, not in int8"):
        OpenVINOExporter().check(replace(CONFIG, precision=Precision.INT8))


def test_the_plugin_form_asks_for_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_extension, "find_compiler", lambda: None)
    with pytest.raises(CapabilityError, match=r"no C\+\+ compiler here: install one"):
        OpenVINOExporter().check(replace(CONFIG, form=Form.PLUGIN))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.slow
@pytest.mark.skipif(openvino_extension.find_compiler() is None, reason="there is no C++ compiler here")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_plugin_form_passes(family: str, precision: str, cache: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), scconv(family, 8), nn.BatchNorm2d(8), nn.ReLU()
    )
    bundle = api.export(net.eval(), EXAMPLE, "openvino", precision, tmp_path / "bundle", form="plugin")
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    assert bundle.manifest["not_executed"] is None
    assert openvino_extension.holds_fused_nodes(bundle.artifact)
    assert api.verify(bundle.path).verdict is Verdict.PASS
