"""Names are unique within a graph, constants are shared only where equal in value, shape and type."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from scconv_deploy.scconv.writer import Writer

FLOAT = onnx.TensorProto.FLOAT


def value(writer: Writer, name: str) -> np.ndarray:
    return np.asarray(onnx.numpy_helper.to_array(writer.tensors[name]))


def test_children_write_into_one_list_under_their_own_path() -> None:
    writer = Writer("net.block", FLOAT)
    first = writer.op("Relu", ["x"])
    second = writer.inside("sru").op("Relu", [first])
    writer.inside("cru").inside("gwc").op("Relu", [second], out="y")
    assert [n.name for n in writer.nodes] == [
        *("net.block/Relu_0", "net.block.sru/Relu_1", "net.block.cru.gwc/Relu_2")
    ]
    assert [list(n.input) for n in writer.nodes] == [["x"], [first], [second]]
    assert writer.nodes[-1].output == ["y"]
    assert first != second


def test_the_whole_model_has_names_without_a_path() -> None:
    writer = Writer("", FLOAT)
    writer.op("Relu", ["x"])
    writer.inside("sru").op("Relu", ["x"])
    assert [n.name for n in writer.nodes] == ["Relu_0", "sru/Relu_1"]
    assert writer.constant(np.array(1)).startswith("model/")


def test_a_second_expansion_makes_other_values_and_the_same_constants() -> None:
    found = []
    for call in (0, 1):
        writer = Writer("net.block", FLOAT, call)
        found.append(([writer.op("Relu", ["x"]), *writer.split("x", (3, 5))], writer.scalar(0.5)))
    (values, constant), (other_values, other_constant) = found
    assert not set(values) & set(other_values)
    assert constant == other_constant


def test_split_takes_the_channel_axis() -> None:
    writer = Writer("b", FLOAT)
    made = writer.split("x", (3, 5))
    (node,) = writer.nodes
    assert tuple(node.output) == made
    assert onnx.helper.get_attribute_value(node.attribute[0]) == 1
    assert value(writer, node.input[1]).tolist() == [3, 5]


@pytest.mark.parametrize(
    "other",
    [
        np.zeros(2, np.float64),
        np.zeros((1, 2), np.float32),
        np.array([0, 1e-45], np.float32),
        np.zeros(2, int),
    ],
)
def test_only_equal_constants_are_shared(other: np.ndarray) -> None:
    writer = Writer("b", FLOAT)
    name = writer.constant(np.zeros(2, np.float32))
    assert writer.inside("sru").constant(np.zeros(2, np.float32)) == name
    second = writer.constant(other)
    assert second != name
    found = value(writer, second)
    assert (found.dtype, found.shape) == (other.dtype, other.shape)
    np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize("dtype", [FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE])
def test_scalars_and_vectors_have_the_activations_type(dtype: int) -> None:
    writer = Writer("b", dtype)
    kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    scalar, vector = value(writer, writer.scalar(0.1)), value(writer, writer.filled(0.1, 4))
    assert (scalar.dtype, scalar.shape) == (kind, ())
    assert (vector.dtype, vector.shape) == (kind, (4,))
    assert set(vector.tolist()) == {scalar.item()}
    assert len({writer.filled(0.1, 4), writer.filled(0.1, 5), writer.filled(0.2, 4)}) == 3
