"""Q/DQ in torch against ONNX Runtime, float8 included."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper

from scconv_deploy.interpret.program import OnnxProgram

X = np.concatenate(
    [np.linspace(-5, 5, 997), [0.0, 1e-4, -1e-4, 1e3, -1e3, 0.5, 1.5, 2.5], 2.0 ** np.arange(-12.0, 9.0)]
).astype(np.float32)
X = X[: X.size // 2 * 2].reshape(2, -1)


def _round_trip(zero: np.ndarray, scale: np.ndarray, axis: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis),
    ]
    kind = helper.np_dtype_to_tensor_dtype(scale.dtype)
    ends = [helper.make_tensor_value_info(n, kind, list(X.shape)) for n in ("x", "y")]
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


CASES = {
    "uint8": (np.array(130, np.uint8), np.array(0.04, np.float32)),
    "int8": (np.array(0, np.int8), np.array(0.04, np.float32)),
    "int8 per channel": (np.array([0, 0], np.int8), np.array([0.04, 0.01], np.float32)),
    "float8": (np.array(0, ml_dtypes.float8_e4m3fn), np.array(0.02, np.float32)),
    "float8 per channel": (np.zeros(2, ml_dtypes.float8_e4m3fn), np.array([0.02, 0.5], np.float32)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_round_trip_is_onnx_runtimes(case: str) -> None:
    zero, scale = CASES[case]
    model = _round_trip(zero, scale, 0)
    want = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": X}
    )[0]
    got = OnnxProgram(model).evaluate({"x": torch.from_numpy(X)}, ["y"])["y"].numpy()
    assert np.array_equal(got, want)


def test_float8_codes_stay_codes_in_a_lifted_graph() -> None:
    zero, scale = CASES["float8"]
    made = OnnxProgram(_round_trip(zero, scale, 0), lift=torch.float64).evaluate(
        {"x": torch.from_numpy(X)}, ["y"]
    )["y"]
    assert made.dtype is torch.float64
    wide = torch.from_numpy(X).double() / float(scale)
    want = wide.clamp(-448, 448).float().to(torch.float8_e4m3fn).double() * float(scale)
    assert torch.equal(made, want)


def test_overflow_saturates_and_is_no_nan() -> None:
    zero, scale = CASES["float8"]
    made = OnnxProgram(_round_trip(zero, scale, 0)).evaluate({"x": torch.from_numpy(X)}, ["y"])["y"]
    assert bool(made.isfinite().all())
    assert float(made.max()) == pytest.approx(448 * 0.02)
