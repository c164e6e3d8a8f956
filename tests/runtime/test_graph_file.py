"""Reading and writing ONNX graphs without the onnx package, judged by the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scconv_deploy.runtime.graph_file import GraphFile, one_node_model
from scconv_deploy.runtime.graph_node import Node
from tests.runtime.blocked_models import with_convolutions

NAMES = st.text("abcxyz/_:é", min_size=1, max_size=8)


def test_a_model_goes_there_and_back(tmp_path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(with_convolutions(tmp_path / "model.onnx"))
    for node in model.graph.node:
        # The parser writes empty domains; nobody else does.
        if not node.domain:
            node.ClearField("domain")
    again = onnx.ModelProto.FromString(GraphFile(model.SerializeToString()).to_bytes())
    assert {v.name: v for v in again.graph.value_info} == {v.name: v for v in model.graph.value_info}
    del again.graph.value_info[:], model.graph.value_info[:]
    assert again == model


@given(
    st.lists(
        st.tuples(NAMES, st.lists(NAMES, max_size=3), NAMES, st.dictionaries(NAMES, st.integers(-5, 2**40))),
        max_size=6,
    )
)
def test_any_nodes_go_there_and_back(described: list[tuple[str, list[str], str, dict[str, int]]]) -> None:
    nodes = [
        onnx.helper.make_node(
            kind, [f"in/{i}" for i in inputs], [f"out/{at}"], name, domain=name, **attributes
        )
        for at, (kind, inputs, name, attributes) in enumerate(described)
        if not set(attributes) & {"inputs", "outputs", "name", "domain", "op_type"}
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    read = GraphFile(model.SerializeToString())
    for node, made in zip(nodes, read.nodes, strict=True):
        assert (made.op_type, made.domain, made.name) == (node.op_type, node.domain, node.name)
        assert (made.inputs, made.outputs) == (list(node.input), list(node.output))
        for attribute in node.attribute:
            assert made.integer(attribute.name, -99) == attribute.i
    assert onnx.ModelProto.FromString(read.to_bytes()) == model


def test_names_dimensions_and_types(tmp_path: Path) -> None:
    graph = GraphFile(with_convolutions(tmp_path / "model.onnx").SerializeToString())
    assert graph.dims["w3"] == (32, 16, 3, 3)
    assert graph.outputs == {"y"}
    kind = onnx.TypeProto.FromString(graph.types["x"])
    assert kind.tensor_type.shape.dim[1].dim_value == 16


@pytest.mark.parametrize("packed", [False, True])
def test_dimensions_in_either_encoding(packed: bool) -> None:
    dims = b"\x0a\x03\x40\x80\x01" if packed else b"\x08\x40\x08\x80\x01"
    tensor = dims + b"\x42\x01w"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    assert GraphFile(b"\x3a" + bytes([len(graph)]) + graph).dims == {"w": (64, 128)}


def test_nodes_are_sorted_and_an_attribute_is_added(tmp_path: Path) -> None:
    model = with_convolutions(tmp_path / "model.onnx")
    graph = GraphFile(model.SerializeToString())
    graph.nodes.reverse()
    graph.nodes[0].set_integer("block", 16)
    again = onnx.ModelProto.FromString(graph.to_bytes())
    known = {"x", *(i.name for i in again.graph.initializer)}
    for node in again.graph.node:
        assert set(node.input) <= known, node.name
        known |= set(node.output)
    assert again.graph.node[-1].attribute[-1] == onnx.helper.make_attribute("block", 16)


def test_constants_are_read_added_and_dropped(tmp_path: Path) -> None:
    model = with_convolutions(tmp_path / "model.onnx")
    graph = GraphFile(model.SerializeToString())
    (w3,) = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "w3")
    read = graph.constant("w3")
    assert read is not None
    np.testing.assert_array_equal(read, w3)
    assert graph.constant("x") is None
    assert graph.constant("nothing") is None
    graph.add_constant("new", read[:2].transpose(3, 2, 1, 0))
    graph.drop_constant("w3")
    assert graph.dims["new"] == (3, 3, 16, 2)
    assert "w3" not in graph.dims
    again = onnx.ModelProto.FromString(graph.to_bytes())
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in again.graph.initializer}
    np.testing.assert_array_equal(stored["new"], w3[:2].transpose(3, 2, 1, 0))
    assert set(stored) == {t.name for t in model.graph.initializer} - {"w3"} | {"new"}


def test_a_constant_that_callers_may_replace_is_none(tmp_path: Path) -> None:
    model = with_convolutions(tmp_path / "model.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("w3", 1, (32, 16, 3, 3)))
    assert GraphFile(model.SerializeToString()).constant("w3") is None


def test_a_cycle_is_refused() -> None:
    nodes = [onnx.helper.make_node("Relu", ["a"], ["b"]), onnx.helper.make_node("Relu", ["b"], ["a"])]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    with pytest.raises(ValueError, match="cycle"):
        GraphFile(model.SerializeToString()).to_bytes()


@pytest.mark.parametrize("data", [b"", b"no model at all", b"\x08\x09"])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        GraphFile(data)


def test_a_model_of_one_node_runs() -> None:
    made = one_node_model(Node("Relu", ["x"], ["y"]), "com.microsoft")
    session = ort.InferenceSession(made, providers=["CPUExecutionProvider"])
    x = np.array([[-1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], [[0, 2]])
