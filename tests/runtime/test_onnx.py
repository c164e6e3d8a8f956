"""The ONNX Runtime runner: names, refusals in words, no silent fallback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.onnx import OnnxRunner, version
from tests.runtime.bundles import write_model

X = np.ones((1, 3, 8, 8), np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("optimise", [True, False])
def test_a_file_or_its_bytes(model: Path, optimise: bool) -> None:
    for source in (model, model.read_bytes()):
        with OnnxRunner(source, threads=1, optimise=optimise) as runner:
            assert (runner.input_names, runner.output_names) == (("x",), ("y", "z"))
            np.testing.assert_array_equal(runner.run({"x": X})["y"], 2 * X)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "takes inputs x; given were none"),
        ({"x": X, "mask": X}, "given were x, mask"),
        ({"x": X.astype(np.float64)}, "refused the inputs"),
        ({"x": X[0]}, "refused the inputs"),
    ],
)
def test_refusals(inputs: dict[str, np.ndarray], message: str, model: Path) -> None:
    with OnnxRunner(model, threads=1) as runner, pytest.raises(InputError, match=message):
        runner.run(inputs)


def test_a_closed_runner(model: Path) -> None:
    runner = OnnxRunner(model, threads=1)
    with runner:
        pass
    with pytest.raises(InputError, match="closed"):
        runner.run({"x": X})


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08 no model")
    with pytest.raises(InputError, match="cannot load"):
        OnnxRunner(tmp_path / "model.onnx")


def test_a_provider_that_is_not_here(model: Path) -> None:
    with pytest.raises(CapabilityError, match="available: "):
        OnnxRunner(model, provider="CUDAExecutionProvider_x")
    with pytest.raises(CapabilityError, match="available: "):
        open_runner("onnxruntime", model, provider="NoProvider")


def test_version() -> None:
    assert version()[0].isdigit()
