"""A TensorRT bundle on a machine that cannot run it: refused in words, or run on its graph where that was asked for."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.kernels import loader
from scconv_deploy.runtime import tensorrt
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu
from tests.runtime.bundles import read, write_bundle, write_manifest

X = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine's bundle on a machine without a GPU; its graph lies beside the engine."""
    folder = write_bundle(tmp_path / "bundle")
    (folder / "model.engine").write_bytes(b"plan")
    write(folder)
    monkeypatch.setattr(tensorrt, "probe", lambda: NoGpu("no NVIDIA GPU on this machine"))
    loader.say_once.cache_clear()
    return folder


def write(folder: Path, names: tuple[str, ...] = ("model.engine", "model.onnx"), **changes: object) -> None:
    manifest = {**read(folder), "runtime": "tensorrt-rtx", "artifact": "model.engine", **changes}
    write_manifest(folder, manifest, (*names, "samples.npz"))


def test_without_a_fallback_it_is_refused_and_the_way_out_is_named(bundle: Path) -> None:
    with pytest.raises(
        CapabilityError, match=r"no NVIDIA GPU.*; fallback='onnx' \(--fallback onnx\) runs"
    ) as error:
        open_bundle(bundle)
    assert error.value.exit_code == 3


def test_with_it_the_graph_runs_and_that_is_said_once(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with open_bundle(bundle, threads=1, fallback="onnx", verify="golden") as engine:
                np.testing.assert_array_equal(engine.run({"x": X})["y"], 2 * X)
                info = engine.info
    assert (info.runtime, info.artifact, info.device) == ("onnxruntime", "model.onnx", "CPUExecutionProvider")
    assert "no NVIDIA GPU" in str(info.fallback)
    (said,) = [r.message for r in caplog.records if "as was asked for" in r.message]
    assert "model.engine cannot be run here: no NVIDIA GPU" in said


def test_the_manifest_explains_a_mismatch_before_anything_is_loaded(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda: Gpu("H200", "sm_90", (12, 8)))
    monkeypatch.setattr(tensorrt, "find_device", lambda: object())
    monkeypatch.setattr(tensorrt, "load", lambda name: np)  # any module with a version
    write(bundle, details={"compute_capabilities": ["sm_89"]})
    with pytest.raises(CapabilityError, match="built for sm_89 and this machine's H200 is sm_90"):
        open_bundle(bundle)


def test_a_graph_that_the_manifest_does_not_list_is_not_run(bundle: Path) -> None:
    write(bundle, names=("model.engine",))
    with pytest.raises(CapabilityError, match=r"no NVIDIA GPU on this machine$"):
        open_bundle(bundle, fallback="onnx")


def test_an_altered_graph_is_refused_though_it_only_stands_by(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"\x08other")
    with pytest.raises(InputError, match=r"model\.onnx was altered"):
        open_bundle(bundle, fallback="onnx")


def test_a_fallback_replaces_no_provider(tmp_path: Path) -> None:
    onnx = write_bundle(tmp_path / "onnx")
    with pytest.raises(CapabilityError, match="has no NoSuchProvider"):
        open_bundle(onnx, provider="NoSuchProvider", fallback="onnx")
    with pytest.raises(InputError, match="fallback='openvino' is unknown"):
        open_bundle(onnx, fallback="openvino")


def test_damage_is_no_reason_to_fall_back(bundle: Path) -> None:
    (bundle / "model.engine").write_bytes(b"other")
    with pytest.raises(InputError, match=r"model\.engine was altered"):
        open_bundle(bundle, fallback="onnx")
