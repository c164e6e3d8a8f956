"""Names lead back to modules, whatever the exporter recorded; no trace of the exporting machine stays."""

from __future__ import annotations

import onnx
import pytest

from scconv_deploy.graph.names import SCOPES, belongs_to, module_path, rename_nodes, strip_metadata

FLOAT = onnx.TensorProto.FLOAT


def node(scopes: str | None, name: str = "node_1", key: str = SCOPES) -> onnx.NodeProto:
    made = onnx.helper.make_node("Relu", ["x"], ["y"], name=name)
    if scopes is not None:
        prop = made.metadata_props.add()
        prop.key, prop.value = key, scopes
    return made


@pytest.mark.parametrize(
    ("scopes", "path"),
    [
        ("['', 'layer1', 'layer1.0', 'relu']", "layer1.0"),
        ("['', 'relu']", ""),
        ("['relu']", ""),
        ("[]", ""),
        ("['', 'layer1', None, 'relu']", "layer1"),
        (None, ""),
    ],
)
def test_the_innermost_module(scopes: str | None, path: str) -> None:
    assert module_path(node(scopes)) == path


def test_other_metadata_is_no_path() -> None:
    assert module_path(node("['', 'layer1', 'relu']", key="pkg.torch.onnx.class_hierarchy")) == ""


def test_names_are_unique_and_renaming_again_keeps_paths() -> None:
    nodes = [node("['', 'a', 'relu']"), node("['', 'a', 'relu']"), node(None, "b.sru/Add_4"), node(None)]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    rename_nodes(model)
    once = [n.name for n in model.graph.node]
    assert once == ["a/Relu_0", "a/Relu_1", "b.sru/Relu_2", "Relu_3"]
    strip_metadata(model)
    rename_nodes(model)
    assert [n.name for n in model.graph.node] == once


def test_a_longer_name_is_another_module() -> None:
    assert belongs_to("layer1.0.conv/Add_3", "layer1.0")
    assert not belongs_to("layer1.01/Add_3", "layer1.0")
    assert not belongs_to("layer1/Add_3", "layer1.0")


def test_every_place_for_a_trace_is_emptied() -> None:
    value = onnx.helper.make_tensor_value_info
    tensor = onnx.helper.make_tensor("w", FLOAT, [1], [1.0])
    graph = onnx.helper.make_graph(
        [node("['', 'a', 'relu']")],
        "g",
        [value("x", FLOAT, [1])],
        [value("y", FLOAT, [1])],
        [tensor],
        value_info=[value("z", FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph)
    graph = model.graph
    graph.node[0].doc_string = "SECRET"
    for owner in (graph, graph.node[0], graph.input[0], graph.output[0], graph.value_info[0]):
        prop = owner.metadata_props.add()
        prop.key, prop.value = "trace", "SECRET"
    prop = graph.initializer[0].metadata_props.add()
    prop.key, prop.value = "trace", "SECRET"
    assert model.SerializeToString().count(b"SECRET") == 7
    strip_metadata(model)
    assert b"SECRET" not in model.SerializeToString()
    assert graph.node[0].name == "node_1"
