"""What the parser may see: no functions, no foreign operators, no external weights."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters.trt import graph
from scconv_deploy.errors import BuildError
from tests.exporters.trt.models import conv_relu, model, rtx


def _function(domain: str, name: str, op: str) -> onnx.FunctionProto:
    body = [helper.make_node(op, ["a"], ["b"], name=f"{name}_body")]
    return helper.make_function(domain, name, ["a"], ["b"], body, [helper.make_opsetid("", 20)])


def _lookalike() -> onnx.ModelProto:
    """A function called Softmax that is a Relu, and two functions of one name in two domains."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"], domain="scconv"),
        helper.make_node("Act", ["p"], ["q"], domain="one"),
        helper.make_node("Act", ["q"], ["z"], domain="two"),
    ]
    functions = (
        _function("scconv", "Softmax", "Relu"),
        _function("one", "Act", "Sigmoid"),
        _function("two", "Act", "Tanh"),
    )
    return model(nodes, (2, 4), (2, 4), functions=functions, domains=("scconv", "one", "two"))


def _parsed_layers(trt_model: onnx.ModelProto) -> list[str]:
    trt = rtx()
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    network = builder.create_network(1)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.INTERNAL_ERROR))
    assert parser.parse(trt_model.SerializeToString())
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    layers = [layer for layer in layers if layer.type in (trt.LayerType.SOFTMAX, trt.LayerType.ACTIVATION)]
    return [layer.type.name for layer in layers]


def test_functions_are_inlined_by_domain_and_name() -> None:
    before = _lookalike()
    after = graph.self_contained(before)
    assert [n.op_type for n in after.graph.node] == ["Relu", "Sigmoid", "Tanh"]
    assert not after.functions
    assert len(before.functions) == 3, "the caller's model must stay as it was"


def test_the_parser_sees_the_functions_bodies_and_without_inlining_it_would_not() -> None:
    assert _parsed_layers(graph.self_contained(_lookalike())) == ["ACTIVATION"] * 3
    assert "SOFTMAX" in _parsed_layers(_lookalike()), "the parser has learnt domains: this trap is gone"


def test_a_foreign_operator_is_refused_by_node_domain_and_operator() -> None:
    nodes = [helper.make_node("Fused", ["x"], ["z"], domain="scconv", name="layer1.conv/Fused_0")]
    with pytest.raises(
        BuildError, match=r"'layer1.conv/Fused_0' is the operator scconv::Fused.*--form standard"
    ):
        graph.self_contained(model(nodes, (2, 4), (2, 4), domains=("scconv",)))


def test_a_foreign_operator_inside_a_branch_is_found() -> None:
    def branch(domain: str) -> onnx.GraphProto:
        node = helper.make_node("Relu", ["x"], ["y"], domain=domain, name="inner/Relu_0")
        return helper.make_graph(
            [node], "b", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])]
        )

    def both(domain: str) -> onnx.ModelProto:
        node = helper.make_node("If", ["c"], ["z"], then_branch=branch(""), else_branch=branch(domain))
        return model([node], (2, 4), (2, 4), {"c": np.array(True)}, domains=("scconv",))

    assert graph.self_contained(both("ai.onnx"))
    with pytest.raises(BuildError, match="inner/Relu_0"):
        graph.self_contained(both("scconv"))


def test_external_weights_are_refused_by_name() -> None:
    broken = conv_relu()
    broken.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(BuildError, match="weight 'w' lies in an external file"):
        graph.self_contained(broken)


def test_bytes_are_the_model_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = graph.serialise(conv_relu())
    assert [n.name for n in onnx.load_from_string(data).graph.node] == [
        n.name for n in conv_relu().graph.node
    ]
    monkeypatch.setattr(graph, "LIMIT_BYTES", len(data) - 1)
    with pytest.raises(BuildError, match="at most 2 GiB"):
        graph.serialise(onnx.load_from_string(data))
