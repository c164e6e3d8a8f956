"""Shape arithmetic on numbers says what ONNX Runtime says on tensors, and stays symbolic while tracing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import NodeProto, TensorProto, helper

from scconv_deploy.interpret.program import OnnxProgram
from tests.interpret.graphs import model, ort_run


def node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)


def graph() -> Any:
    """(b, 4, h, w) -> its shape taken apart in every way, and two reshapes by it."""
    nodes = [
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "i0"], "n"),
        node("Gather", ["s", "i23"], "hw"),
        node("Slice", ["s", "i2", "i4"], "tail"),
        node("ReduceProd", ["hw"], "area", keepdims=0),
        node("Mul", ["n", "i2s"], "twice"),
        node("Div", ["area", "i2s"], "half"),
        node("Mod", ["area", "i3s"], "rest"),
        node("Unsqueeze", ["n", "zero"], "n1"),
        node("Concat", ["n1", "minus", "tail"], "target", axis=0),
        node("Reshape", ["x", "target"], "y"),
        node("Equal", ["target", "minus"], "is_free"),
        node("ConstantOfShape", ["four"], "ones", value=helper.make_tensor("v", TensorProto.INT64, [1], [1])),
        node("Where", ["is_free", "ones", "target"], "filled"),
        node("Expand", ["one", "filled"], "e"),
        node("Cast", ["hw"], "hwf", to=TensorProto.FLOAT),
        node("Mul", ["hwf", "scale"], "scaled"),
        node("Floor", ["scaled"], "floored"),
        node("Cast", ["floored"], "hw2", to=TensorProto.INT64),
        node("Slice", ["s", "zero", "i2"], "head"),
        node("Concat", ["head", "hw2"], "sizes", axis=0),
        node("Squeeze", ["n1"], "n0"),
        node("Sub", ["n0", "i2s"], "less"),
        helper.make_node(
            "Resize", ["x", "", "", "sizes"], ["z"], mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        ),
    ]  # fmt: skip
    one = np.ones((1, 1, 1, 1), np.float32)
    constants = {
        "i0": np.array(0),
        "i23": np.array([2, 3]),
        "i2": np.array([2]),
        "i4": np.array([2**63 - 1]),
        "i2s": np.array(2),
        "i3s": np.array(3),
        "zero": np.array([0]),
        "minus": np.array([-1]),
        "four": np.array([4]),
        "one": one,
        "scale": np.array([2.0, 1.5], np.float32),
    }
    outputs = ["y", "e", "z", "twice", "half", "rest", "less", "filled", "sizes"]
    return model(nodes, {"x": ("float32", ["b", 4, "h", "w"])}, outputs, constants, 13)


@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (3, 4, 5, 7)])
def test_numbers_say_what_tensors_say(shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    made = OnnxProgram(graph())(torch.from_numpy(x))
    for ours, theirs in zip(made, ort_run(graph(), {"x": x}), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
        assert ours.numpy().dtype == theirs.dtype


def test_sizes_stay_free_in_torch_export() -> None:
    Dim = torch.export.Dim
    proto = graph()
    del proto.graph.output[3:]
    program = OnnxProgram(proto)
    shapes = ({0: Dim("b"), 2: Dim("h", min=4, max=64), 3: 2 * Dim("half", min=2, max=32)},)
    traced = torch.export.export(program, (torch.randn(2, 4, 6, 8),), dynamic_shapes=shapes)
    x = torch.randn(3, 4, 9, 14)
    for ours, again in zip(program(x), traced.module()(x), strict=True):
        torch.testing.assert_close(ours, again)
