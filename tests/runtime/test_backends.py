"""A manifest's runtime name opens its own runner; what is unknown or absent is said before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime import tensorrt
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.runtime.onnx import OnnxRunner
from tests.runtime.bundles import write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_onnxruntime_runs_the_file(model: Path) -> None:
    runner = open_runner("onnxruntime", model, threads=1)
    assert isinstance(runner, OnnxRunner)
    x = np.ones((1, 3, 8, 8), np.float32)
    with runner as opened:
        np.testing.assert_array_equal(opened.run({"x": x})["y"], 2 * x)


@pytest.mark.parametrize("name", ["onnx", "ONNXRuntime", "", "OpenVINO"])
def test_an_unknown_runtime_is_refused(name: str, model: Path) -> None:
    with pytest.raises(InputError, match=f"cannot run '{name}' artifacts; upgrade it"):
        open_runner(name, model)


def test_an_unavailable_provider_is_never_replaced(model: Path) -> None:
    with pytest.raises(CapabilityError, match="has no NoSuchExecutionProvider"):
        open_runner("onnxruntime", model, provider="NoSuchExecutionProvider")


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_engines_go_to_tensorrt_and_have_no_providers(
    name: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[object, ...]] = []
    monkeypatch.setattr(tensorrt, "TensorRTRunner", lambda *given: opened.append(given))
    with pytest.raises(InputError, match=f"a {name} engine has no providers"):
        open_runner(name, model, provider="CPUExecutionProvider")
    assert opened == []
    options = EngineOptions(contexts=2)
    open_runner(name, model, options=options, manifest={"runtime": name})
    assert opened == [(model, name, options, {"runtime": name})]


def test_onnx_runtime_that_is_not_installed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scconv_deploy.runtime.onnx", None)
    with pytest.raises(CapabilityError, match="pip install onnxruntime"):
        open_runner("onnxruntime", model)
