"""A small residual network of standard operators, and the SCConv network of the parity tests, quantised."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
from onnx import numpy_helper

from scconv_deploy.artifacts import TensorSpec, TracedGraph
from scconv_deploy.config import CalibMethod, ExportConfig, Precision
from scconv_deploy.contracts import QuantForm, Silence
from scconv_deploy.stages import quantize
from tests.parity.nets import ready, samples

INTEGER = QuantForm("uint8", outputs=True, rest=(Precision.FP32,))
SYMMETRIC = QuantForm("int8", outputs=False, rest=(Precision.FP16, Precision.FP32))
FLOAT8 = QuantForm("float8_e4m3fn", outputs=False, rest=(Precision.FP16, Precision.FP32))
FORMS = {"integer": INTEGER, "symmetric": SYMMETRIC, "float8": FLOAT8}
CONFIG = ExportConfig("onnx", precision=Precision.INT8)

RESIDUAL = """
<ir_version: 8, opset_import: ["" : 20]>
net (float[batch, 3, 8, 8] image) => (float[batch, 5] output) {
  a = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
  ar = Relu (a)
  pool = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (ar)
  c = Conv <pads = [1, 1, 1, 1]> (pool, w2)
  sum = Add (c, pool)
  sumr = Relu (sum)
  mean = ReduceMean <keepdims = 0> (sumr, axes)
  output = Gemm <transB = 1> (mean, w3, b3)
}
"""


def residual(scale: float = 1.0) -> TracedGraph:
    """Conv-Relu-MaxPool-Conv-Add-Relu-mean-Gemm with random weights."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(RESIDUAL)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "w3": (5, 8), "b3": (5,)}
    for name, shape in shapes.items():
        array = (rng.standard_normal(shape) * scale).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "axes"))
    for index, node in enumerate(model.graph.node):
        node.name = f"part{index}/{node.op_type}_{index}"
    spec = TensorSpec("image", "float32", ("batch", 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8), (64, 3, 8, 8))
    return TracedGraph(model, (spec,), (TensorSpec("output", "float32", ("batch", 5)),), 20)


def images(count: int = 8) -> dict[str, np.ndarray]:
    """Standard normal inputs of both networks."""
    return samples(count)


def quantised(
    graph: TracedGraph, form: QuantForm, method: CalibMethod = CalibMethod.MINMAX, count: int = 8
) -> TracedGraph:
    """``graph`` through the stage."""
    return quantize.run(graph, images(count), form, replace(CONFIG, calib_method=method), Silence())


@cache
def scconv(form: str) -> TracedGraph:
    """The network of three SCConv blocks, float32, quantised; never change it."""
    return quantised(ready(Precision.FP32).graph, FORMS[form])


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A private copy."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def stored(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A constant's values, to be changed."""
    return np.array(numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name)))


def store(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Put values in place of a constant's."""
    old = next(t for t in model.graph.initializer if t.name == name)
    old.CopyFrom(numpy_helper.from_array(array, name))
