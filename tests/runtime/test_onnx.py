"""The ONNX Runtime runner: names, refusals in words, no silent fallback."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
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


def bfloat16_graph(operator: str) -> bytes:
    """x (bfloat16) -> one operator in float32 or bfloat16 -> y (bfloat16)."""
    kind = onnx.TensorProto.BFLOAT16
    wide = [
        onnx.helper.make_node("Cast", ["x"], ["w"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Add", ["w", "w"], ["v"]),
        onnx.helper.make_node("Cast", ["v"], ["y"], to=kind),
    ]
    nodes = (
        wide if operator == "Add" else [onnx.helper.make_node("Conv", ["x", "k"], ["y"], name="stem/Conv_0")]
    )
    kernel = onnx.helper.make_tensor("k", kind, [1, 1, 1, 1], [1.0])
    ends = [onnx.helper.make_tensor_value_info(n, kind, ["n", 1, 2, 2]) for n in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [kernel] if operator == "Conv" else [])
    opset = onnx.helper.make_opsetid("", 22)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def test_bfloat16_in_and_out() -> None:
    x = np.array([1.5, -2.25, 0.0, 3.0], ml_dtypes.bfloat16).reshape(1, 1, 2, 2)
    with OnnxRunner(bfloat16_graph("Add"), threads=1) as runner:
        (got,) = runner.run({"x": x}).values()
        assert got.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(got.astype(np.float32), 2 * x.astype(np.float32))
        assert runner.run({"x": x[:0]})["y"].shape == (0, 1, 2, 2)
        with pytest.raises(InputError, match="refused the inputs"):
            runner.run({"x": x.astype(np.float32)})


def test_a_type_without_a_kernel_is_a_missing_capability() -> None:
    with pytest.raises(
        CapabilityError, match=r"no CPUExecutionProvider kernel for Conv\(22\) node with name 'stem/"
    ):
        OnnxRunner(bfloat16_graph("Conv"))
