"""The runner: named arrays in and out, bfloat16 included; wrong inputs are refused with a sentence."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from scconv_deploy.errors import InputError
from scconv_deploy.interpret.runner import TorchRunner
from tests.interpret.graphs import one_node, ort_run


def test_float32_equals_onnxruntime() -> None:
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
    proto, feeds = one_node("Softmax", [x], axis=1)
    with TorchRunner(proto.SerializeToString()) as runner:
        assert runner.output_names == ("y0",)
        assert runner.arithmetic == "torch float32, operator by operator"
        np.testing.assert_allclose(runner.run(feeds)["y0"], ort_run(proto, feeds)[0], rtol=1e-6)


def test_bfloat16_arrays_and_lifting() -> None:
    x = np.array([1.0, 2.5, 1e-3]).astype(ml_dtypes.bfloat16)
    proto, feeds = one_node("Mul", [x, x], opset=22)
    runner = TorchRunner(proto)
    assert runner.arithmetic == "torch bfloat16, operator by operator"
    made = runner.run(feeds)["y0"]
    assert made.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(made, (x.astype(np.float64) ** 2).astype(ml_dtypes.bfloat16))
    lifted = TorchRunner(proto, lift=torch.float64)
    assert "float64" in lifted.arithmetic
    np.testing.assert_array_equal(lifted.run(feeds)["y0"], x.astype(np.float64) ** 2)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"z": np.zeros((2, 3), np.float32)}, "takes inputs v0; given were z"),
        ({"v0": np.zeros((2, 3), np.float64)}, "is float64; the graph takes float32"),
        ({"v0": np.zeros((2, 4), np.float32)}, "the graph takes 2x3"),
        ({"v0": np.zeros(2, np.float32)}, "the graph takes 2x3"),
    ],
)
def test_wrong_inputs_are_refused(inputs: dict[str, np.ndarray], said: str) -> None:
    proto, _ = one_node("Relu", [np.zeros((2, 3), np.float32)])
    with pytest.raises(InputError, match=said):
        TorchRunner(proto).run(inputs)


def test_bytes_that_are_no_model() -> None:
    with pytest.raises(InputError, match="not an ONNX model"):
        TorchRunner(b"no model at all")
