"""Outputs are computed into the caller's memory, whatever the model's types; nothing else is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.runtime import onnx
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.runtime.onnx_into import BOUND_FROM
from tests.runtime.bundles import write_model
from tests.runtime.test_onnx import bfloat16_graph

X = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """These outputs are small; bound all the same."""
    monkeypatch.setattr(onnx, "BOUND_FROM", 0)
    write_model(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_all_some_or_no_outputs(model: Path) -> None:
    y, z = np.empty_like(X), np.empty((1, 3), np.float32)
    with OnnxRunner(model, threads=1) as runner:
        for into in ({"y": y, "z": z}, {"z": z}, {"y": y}):
            for array in into.values():
                array.fill(-1)
            results = runner.run_into({"x": X}, into)
            assert all(results[name] is array for name, array in into.items())
            np.testing.assert_array_equal(results["y"], 2 * X)
            np.testing.assert_allclose(results["z"], X.mean((2, 3)), rtol=1e-6)


def test_small_outputs_are_copied_and_large_ones_bound(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[int] = []

    def run_bound(session: object, inputs: object, into: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        bound.append(sum(a.nbytes for a in into.values()))
        return dict(into)

    monkeypatch.setattr(onnx, "BOUND_FROM", BOUND_FROM)
    monkeypatch.setattr(onnx, "run_bound", run_bound)
    with OnnxRunner(model, threads=1) as runner:
        for side in (8, 128):
            x = np.zeros((1, 3, side, side), np.float32)
            runner.run_into({"x": x}, {"y": np.empty_like(x)})
    assert bound == [3 * 128 * 128 * 4]


def test_an_input_that_is_not_contiguous(model: Path) -> None:
    y = np.empty_like(X)
    with OnnxRunner(model, threads=1) as runner:
        runner.run_into({"x": X.transpose(0, 1, 3, 2)}, {"y": y})
    np.testing.assert_array_equal(y, 2 * X.transpose(0, 1, 3, 2))


def test_memory_around_the_array_is_left_alone(model: Path) -> None:
    """A view inside a larger array: a wrong size or offset would show."""
    whole = np.full((3, 3, 8, 8), -7, np.float32)
    with OnnxRunner(model, threads=1) as runner:
        runner.run_into({"x": X}, {"y": whole[1:2]})
    np.testing.assert_array_equal(whole[1:2], 2 * X)
    assert (whole[[0, 2]] == -7).all()


@pytest.mark.parametrize("shape", [(1, 3, 8, 4), (2, 3, 8, 8), (192,), ()])
def test_a_wrong_shape_is_refused_and_nothing_written(model: Path, shape: tuple[int, ...]) -> None:
    y = np.full(shape, -7, np.float32)
    with OnnxRunner(model, threads=1) as runner, pytest.raises(InputError, match="arrays for the outputs"):
        runner.run_into({"x": X}, {"y": y})
    assert (y == -7).all()


def test_bfloat16_is_copied_since_onnx_runtime_binds_none() -> None:
    x = np.array([1.5, -2.25, 0.0, 3.0], ml_dtypes.bfloat16).reshape(1, 1, 2, 2)
    y = np.zeros_like(x)
    with OnnxRunner(bfloat16_graph("Add"), threads=1) as runner:
        assert runner.run_into({"x": x}, {"y": y})["y"] is y
        np.testing.assert_array_equal(y.astype(np.float32), 2 * x.astype(np.float32))
        with pytest.raises(InputError, match="must be writable, contiguous, bfloat16"):
            runner.run_into({"x": x}, {"y": y.astype(np.float32)})


def test_a_closed_runner(model: Path) -> None:
    runner = OnnxRunner(model, threads=1)
    with runner:
        pass
    with pytest.raises(InputError, match="closed"):
        runner.run_into({"x": X}, {"y": np.empty_like(X)})
