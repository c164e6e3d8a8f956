"""Block nodes become standard operators with the same function; everything else of the graph stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import torch

from scconv_deploy.graph.expand import expand_blocks
from scconv_deploy.graph.names import SCOPES, rename_nodes
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.operator import DOMAIN, OPERATOR, PLAN, BlockCall
from scconv_deploy.scconv.reference import constants
from tests.scconv.axes import base
from tests.scconv.test_deploy import reference_of

FLOAT = onnx.TensorProto.FLOAT
X = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(0))
SHAPE = ["batch", 8, 5, 7]


def deploy() -> DeploySCConv:
    module = reference_of(base())
    return DeploySCConv(module.spec, constants(module)).float().eval()


def block(call: BlockCall, given: str, made: str, names: Sequence[str]) -> onnx.NodeProto:
    """A node as ``trace`` records it."""
    node = onnx.helper.make_node(
        OPERATOR, [given, *names], [made], name="node_7", domain=DOMAIN, plan=call.plan.to_text()
    )
    prop = node.metadata_props.add()
    prop.key, prop.value = SCOPES, "['', 'net', 'net.block', 'symbolic']"
    return node


def model_of(calls: int = 1, exchange: tuple[str, str] | None = None) -> onnx.ModelProto:
    """``y = relu(block(x))``, the same block ``calls`` times; two of its constants may be exchanged."""
    call = BlockCall(deploy())
    buffers = dict(call.named_buffers())
    names = list(buffers)
    if exchange:
        i, j = (names.index(name) for name in exchange)
        names[i], names[j] = names[j], names[i]
    values = ["x", *(f"v{i}" for i in range(calls))]
    nodes = [block(call, values[i], values[i + 1], names) for i in range(calls)]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [*nodes, onnx.helper.make_node("Relu", [values[-1]], ["y"], name="Relu_9")],
        "g",
        [info("x", FLOAT, SHAPE)],
        [info("y", FLOAT, SHAPE)],
        [onnx.numpy_helper.from_array(t.numpy(), n) for n, t in buffers.items()],
        value_info=[info(v, FLOAT, SHAPE) for v in [*values[1:], "of_a_node_long_gone"]],
    )
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(DOMAIN, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


def error(model: onnx.ModelProto, calls: int = 1) -> float:
    """Largest difference to PyTorch; the model must be valid ONNX of the standard domain alone."""
    rename_nodes(model)  # as ``trace`` does: only after it are the node names unique
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain for o in model.opset_import} == {""}
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    (found,) = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": X.numpy()})
    want = X
    for _ in range(calls):
        want = deploy()(want)
    return float(np.abs(found - want.relu().detach().numpy()).max()) / float(want.abs().max())


def test_the_function_and_the_names() -> None:
    model = model_of()
    assert expand_blocks(model) == 1
    assert model.graph.node[-1].name == "Relu_9"
    assert all(n.name.startswith("net.block") for n in model.graph.node[:-1])
    assert error(model) < 1e-5
    assert [v.name for v in model.graph.value_info] == ["v0"]


def test_exchanged_constants_are_seen() -> None:
    model = model_of(exchange=("sru_gate_scale", "sru_gate_shift"))
    expand_blocks(model)
    assert error(model) > 1e-3


def test_a_block_called_twice_has_values_of_its_own() -> None:
    model = model_of(calls=2)
    assert expand_blocks(model) == 2
    made = [v for n in model.graph.node for v in n.output]
    assert len(set(made)) == len(made)
    tensors = [t.name for t in model.graph.initializer]
    assert len(set(tensors)) == len(tensors)
    assert error(model, calls=2) < 1e-4


def test_a_graph_without_blocks_is_not_touched() -> None:
    model = model_of(calls=0)
    model.graph.node.insert(0, onnx.helper.make_node(OPERATOR, ["x"], ["other"], domain="other.vendor"))
    before = model.SerializeToString()
    assert expand_blocks(model) == 0
    assert model.SerializeToString() == before


def test_the_plan_is_on_the_node() -> None:
    assert [a.name for a in model_of().graph.node[0].attribute] == [PLAN]
