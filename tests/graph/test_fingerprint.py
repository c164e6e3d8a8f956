"""One structure has one digest, whatever inner values are called and weigh; any other structure has another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from scconv_deploy.graph.fingerprint import fingerprint

TEXT = """
<ir_version: 8, opset_import: ["" : 20]>
net (float[batch, 3, 8, 8] image) => (float[batch, 4, 8, 8] output, float[batch, 4, 8, 8] other)
<float[4, 3, 1, 1] weight, float[4] bias> {
  a = Conv <group = 1> (image, weight, bias)
  b = Relu (a)
  output = Sub (a, b)
  other = Sub (a, a)
}
"""
Change = Callable[[onnx.ModelProto], None]


def graph() -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    for name, shape in (("weight", (4, 3, 1, 1)), ("bias", (4,))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    for index, node in enumerate(model.graph.node):
        node.name = f"part/{node.op_type}_{index}"
    return model


def inner_names(model: onnx.ModelProto) -> None:
    text = TEXT
    for old, new in (
        ("a = ", "first = "),
        ("(a)", "(first)"),
        ("(a, b)", "(first, b)"),
        ("(a, a)", "(first, first)"),
    ):
        text = text.replace(old, new)
    other = onnx.parser.parse_model(text)
    for node, made in zip(model.graph.node, other.graph.node, strict=True):
        node.input[:], node.output[:] = made.input, made.output


def weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros((4, 3, 1, 1), np.float32), "weight")
    )


@pytest.mark.parametrize("change", [inner_names, weights])
def test_names_of_inner_values_and_weights_are_no_structure(change: Change) -> None:
    model = graph()
    change(model)
    assert model != graph()
    assert fingerprint(model) == fingerprint(graph())


def operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Sigmoid"


def attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].i = 2


def swapped_inputs(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[:] = ["b", "a"]


def one_node_less(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[1] = "a"
    del model.graph.node[1]


def swapped_outputs(model: onnx.ModelProto) -> None:
    model.graph.node[2].output[0], model.graph.node[3].output[0] = "other", "output"


def node_name(model: onnx.ModelProto) -> None:
    model.graph.node[1].name = "elsewhere/Relu_1"


def shape_of_a_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.ones((1,), np.float32), "bias"))


def type_of_an_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


@pytest.mark.parametrize(
    "change",
    [
        operator,
        attribute,
        swapped_inputs,
        one_node_less,
        swapped_outputs,
        node_name,
        shape_of_a_constant,
        type_of_an_input,
    ],
)
def test_any_other_structure_is_another_digest(change: Change) -> None:
    model = graph()
    change(model)
    assert fingerprint(model) != fingerprint(graph())
