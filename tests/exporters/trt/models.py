"""Tiny ONNX models with the node names that tracing gives, made without torch; and the module that builds."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.trt.platform import Platform, choose
from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.contracts import Silence

FLOAT = TensorProto.FLOAT
SILENCE = Silence()
WEIGHTS = np.random.default_rng(0)


def rtx() -> ModuleType:
    """The real builder, or a skip that says how to get it."""
    module: ModuleType = pytest.importorskip(
        "tensorrt_rtx", reason='TensorRT for RTX is not installed: pip install "scconv-deploy[trt-rtx]"'
    )
    return module


def rtx_platform() -> Platform:
    rtx()
    return choose("trt-rtx")


def model(
    nodes: list[onnx.NodeProto],
    shape: tuple[int | str, ...],
    out: tuple[int | str | None, ...],
    weights: dict[str, np.ndarray] | None = None,
    functions: tuple[onnx.FunctionProto, ...] = (),
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """A model from ``x`` to ``z``, both float32."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("z", FLOAT, out)],
        [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def conv(name: str, source: str, result: str, weight: str = "w", **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [result], name=name, pads=[1, 1, 1, 1], **attributes)


def conv_weight(out: int, into: int) -> np.ndarray:
    return WEIGHTS.standard_normal((out, into, 3, 3)).astype(np.float32)


def conv_relu(batch: int | str = 2) -> onnx.ModelProto:
    """Conv and Relu of a block, then a Sigmoid outside it; ``batch`` may be a symbol."""
    nodes = [
        conv("layer1.0.conv2/Conv_0", "x", "c"),
        helper.make_node("Relu", ["c"], ["r"], name="layer1.0.conv2/Relu_1"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="head.pool/GlobalAveragePool_2"),
        helper.make_node("Sigmoid", ["p"], ["z"], name="head/Sigmoid_3"),
    ]
    return model(nodes, (batch, 3, 16, 16), (batch, 8, 1, 1), {"w": conv_weight(8, 3)})


def conv_chain(length: int) -> onnx.ModelProto:
    """``length`` convolutions in a row, so that a build takes long enough to be interrupted."""
    names = ["x", *(f"t{i}" for i in range(length - 1)), "z"]
    nodes = [conv(f"body.{i}/Conv_{i}", names[i], names[i + 1], f"w{i}") for i in range(length)]
    weights = {f"w{i}": conv_weight(32, 32) for i in range(length)}
    return model(nodes, (1, 32, 32, 32), (1, 32, 32, 32), weights)


STATIC = (TensorSpec("x", "float32", (2, 3, 16, 16)),)
DYNAMIC = (TensorSpec("x", "float32", ("batch", 3, 16, 16), (1, 3, 16, 16), (4, 3, 16, 16), (8, 3, 16, 16)),)
