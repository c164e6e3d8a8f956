"""Graphs counted by hand, a ResNet-50 against the field's number, and what must not count."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
import torch

from scconv_deploy.bench.block_graphs import block_graph, plain_graph
from scconv_deploy.bench.cost import graph_cost
from scconv_deploy.config import Form
from scconv_deploy.profiles import Work
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.zoo.counts import count

FLOAT = onnx.TensorProto.FLOAT


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], constants: dict[str, np.ndarray]
) -> onnx.ModelProto:
    out = nodes[-1].output[0]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs.items()],
        [onnx.helper.make_tensor_value_info(out, FLOAT, None)],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])


def test_a_convolution_and_a_relu_by_hand() -> None:
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], name="conv", strides=[2, 2], pads=[1] * 4, group=2),
        onnx.helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    made = model(nodes, {"x": ["batch", 4, 8, 8]}, {"w": np.zeros((6, 2, 3, 3), np.float32)})

    found = graph_cost(made, {"x": (5, 4, 8, 8)})

    out = 5 * 6 * 4 * 4
    assert found.unknown == ()
    assert found.nodes["conv"] == Work(out * 2 * 9, 0, 4 * (5 * 4 * 64 + 6 * 2 * 9 + out))
    assert found.nodes["relu"] == Work(0, out, 4 * 2 * out)
    assert found.total.operations == 2 * out * 18 + out


@pytest.mark.parametrize(("transposed", "shape"), [(0, [3, 7]), (1, [7, 3])])
def test_a_gemm_counts_its_inner_axis(transposed: int, shape: list[int]) -> None:
    node = onnx.helper.make_node("Gemm", ["a", "b"], ["y"], name="gemm", transA=transposed)
    made = model([node], {"a": list(shape)}, {"b": np.zeros((7, 5), np.float32)})
    assert graph_cost(made, {}).nodes["gemm"].macs == 3 * 7 * 5


def test_a_transposed_convolution_spreads_its_input() -> None:
    node = onnx.helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", strides=[2, 2])
    made = model([node], {"x": [1, 3, 4, 4]}, {"w": np.zeros((3, 5, 2, 2), np.float32)})
    assert graph_cost(made, {}).nodes["up"].macs == 3 * 16 * 5 * 4


def test_what_renames_a_shape_moves_nothing_and_what_copies_computes_nothing() -> None:
    nodes = [
        onnx.helper.make_node("Reshape", ["x", "s"], ["r"], name="reshape"),
        onnx.helper.make_node("Concat", ["r", "r"], ["y"], name="concat", axis=0),
    ]
    found = graph_cost(model(nodes, {"x": [2, 6]}, {"s": np.array([3, 4])}), {})
    assert found.nodes["reshape"] == Work()
    # One tensor read once, however often it is named, and twice its size written.
    assert found.nodes["concat"] == Work(0, 0, 4 * (12 + 24))


def test_shapes_that_nothing_tells_are_named_and_not_guessed() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    found = graph_cost(model([node], {"x": ["n", "m"]}, {}), {})
    assert found.unknown == ("relu",)
    assert found.nodes["relu"] == Work()


@pytest.mark.parametrize("form", list(Form))
def test_an_scconv_block_by_hand(form: Form) -> None:
    n, c, side = 2, 32, 6
    pixels = n * side * side
    q = c // 4  # half the channels, squeezed by two
    macs = pixels * (2 * (c // 2) * q + 9 * (q // 2) * c + q * c + q * c)  # squeezes, GWC, PWC1, merged Y2
    total = graph_cost(block_graph("F3", form, (n, c, side, side), 0), {}).total
    assert total.macs == macs
    assert total.elementwise > 0


def test_fused_operators_move_less_than_the_passes_they_stand_for() -> None:
    shape = (1, 64, 14, 14)
    one, many = (graph_cost(block_graph("F3", f, shape, 0), {}).total for f in (Form.PLUGIN, Form.STANDARD))
    assert one.macs == many.macs
    assert one.bytes_moved < many.bytes_moved / 2


def test_the_plain_convolution_by_hand() -> None:
    found = graph_cost(plain_graph((3, 8, 5, 5), 0), {}).total
    assert found == Work(3 * 8 * 25 * 8 * 9, 0, 4 * (2 * 3 * 8 * 25 + 8 * 8 * 9 + 8))


@pytest.mark.filterwarnings("ignore:You are using the legacy:DeprecationWarning")
def test_a_resnet50_has_the_fields_4_089_billion_macs() -> None:
    net = zoo.build("resnet50").eval()
    stream = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            net, (torch.zeros(1, 3, 224, 224),), stream, dynamo=False, do_constant_folding=False
        )
    made = onnx.load_from_string(stream.getvalue())
    total = graph_cost(made, {}).total
    assert total.macs == count(net, (3, 224, 224)).macs
    assert total.macs / 1e9 == pytest.approx(4.089, abs=5e-4)
