"""Types by role of a block's graph, at every precision, opset and style; a gate that leaves its island shows."""

from __future__ import annotations

import onnx
import pytest
import torch

from scconv_deploy.config import Precision
from scconv_deploy.graph.precision import block_types, lowest, model_precision, role, widest
from scconv_deploy.interpret.runner import TorchRunner
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.operator import BlockCall
from scconv_deploy.scconv.reference import constants
from scconv_deploy.scconv.spec import Fuse, Gate, Norm, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.typed import TORCH_TYPES, cast_module
from tests.scconv.axes import base, cru, specifications, sru
from tests.scconv.test_deploy import reference_of

ELEMENTS = {Precision.FP16: onnx.TensorProto.FLOAT16, Precision.BF16: onnx.TensorProto.BFLOAT16}
OPSETS = {Precision.FP16: (18, 20, 21, 23), Precision.BF16: (22, 23)}
TYPED = [(precision, opset) for precision, opsets in OPSETS.items() for opset in opsets]
PATH = "net.block"
STYLES = [
    GraphStyle(),
    GraphStyle(where_mask=True, merged_y2=False, concat_fuse=True),
    GraphStyle(gate_in_half=True),
    GraphStyle(literal_gate=True),
]


def typed(spec: SCConvSpec, precision: Precision, style: GraphStyle) -> DeploySCConv:
    """A typed block with a folded BatchNorm where it ends with its fuse."""
    single = {name: tensor.float() for name, tensor in constants(reference_of(spec)).items()}
    block = DeploySCConv(spec, single, style)
    if block.cru is not None and block.ends_with_cru:
        generator = torch.Generator().manual_seed(2)
        scale, shift = torch.randn(2, spec.c_out, generator=generator)
        block.cru.fold_batch_norm(scale, shift)
    cast_module(block, precision)
    return block


def written(block: DeploySCConv, precision: Precision, opset: int) -> onnx.ModelProto:
    """The block alone as an ONNX model with free sizes, checked in full."""
    call, element = BlockCall(block), ELEMENTS[precision]
    names = [f"{PATH}:{name}" for name in call.plan.constants]
    shape = ("n", block.spec.c_in, "h", "w")
    nodes, small = emit_block(call.plan, "x", "y", names, PATH, shape, element)
    stored = [_tensor(name, tensor) for name, tensor in zip(names, call.buffers(), strict=True)]
    graph = onnx.helper.make_graph(
        nodes,
        "block",
        [onnx.helper.make_tensor_value_info("x", element, shape)],
        [onnx.helper.make_tensor_value_info("y", element, ["n", "c", "hh", "ww"])],
        [*stored, *small],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return model


def _tensor(name: str, tensor: torch.Tensor) -> onnx.TensorProto:
    if tensor.dtype is torch.bfloat16:
        bits = tensor.detach().contiguous().view(torch.int16).numpy().tobytes()
        return onnx.helper.make_tensor(name, onnx.TensorProto.BFLOAT16, tensor.shape, bits, raw=True)
    return onnx.numpy_helper.from_array(tensor.detach().numpy(), name)


def disagreement(
    block: DeploySCConv, model: onnx.ModelProto, precision: Precision, quantile: float = 1.0
) -> float:
    """Largest difference (or a quantile) relative to the largest value, both operator by operator in half."""
    half = TORCH_TYPES[precision]
    x = torch.randn(2, block.spec.c_in, 5, 7, generator=torch.Generator().manual_seed(1)).to(half)
    with torch.no_grad():
        want = block(x).float()
        with TorchRunner(model) as runner:
            got = runner.program.evaluate({"x": x}, ["y"])["y"]
    assert got.dtype is half
    return float(torch.quantile((got.float() - want).abs(), quantile) / want.abs().max())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("precision", "opset"), TYPED)
def test_valid_and_equal_to_the_typed_module(precision: Precision, opset: int, style: GraphStyle) -> None:
    for spec in (base(), cru(fuse=Fuse.PAIR), sru(norm=Norm.GROUP_STD, gate=Gate.HARD)):
        block = typed(spec, precision, style)
        limit = 4 * torch.finfo(TORCH_TYPES[precision]).eps
        # Without the island the graph rounds between norm and affine, the module behind them: gates may differ.
        most = 0.5 if style.gate_in_half or style.literal_gate else 1.0
        assert disagreement(block, written(block, precision, opset), precision, most) <= limit


@pytest.mark.parametrize("name", [n for n in specifications() if "padding" not in n])
def test_every_specification_is_valid_in_both_types(name: str) -> None:
    spec = specifications()[name]
    for precision, style in ((Precision.FP16, STYLES[1]), (Precision.BF16, STYLES[0])):
        block = typed(spec, precision, style)
        model = written(block, precision, OPSETS[precision][0])
        assert disagreement(block, model, precision) <= 4 * torch.finfo(TORCH_TYPES[precision]).eps


def test_a_broken_graph_disagrees() -> None:
    block = typed(base(), Precision.FP16, GraphStyle())
    model = written(block, Precision.FP16, 20)
    node = next(n for n in model.graph.node if n.op_type == "Greater")
    node.op_type = "Less"
    assert disagreement(block, model, Precision.FP16) > 0.01


@pytest.mark.parametrize("precision", list(ELEMENTS))
@pytest.mark.parametrize("fuse", Fuse)
def test_roles_of_the_island_and_of_a_gate_without_it(fuse: Fuse, precision: Precision) -> None:
    half = precision.value
    for style, gate in zip(STYLES, ("fp32", "fp32", half, half), strict=True):
        model = written(typed(cru(fuse=fuse), precision, style), precision, OPSETS[precision][0])
        found = block_types(model, (PATH, "net.blockade"))
        assert found == {
            PATH: {"convolutions": half, "gate": gate, "fuse": "fp32"},
            "net.blockade": {},
        }
        assert model_precision(model) == half


def test_a_static_gate_has_no_comparison() -> None:
    spec = sru(gate=Gate.STATIC, threshold=0.1)
    model = written(typed(spec, Precision.FP16, GraphStyle()), Precision.FP16, 20)
    assert block_types(model, (PATH,))[PATH].keys() == {"convolutions", "fuse"}


def test_one_wide_convolution_is_seen() -> None:
    model = written(typed(base(), Precision.FP16, GraphStyle()), Precision.FP16, 20)
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    at = list(model.graph.node).index(conv)
    cast = [onnx.helper.make_node("Cast", [v], [f"{v}_w"], to=onnx.TensorProto.FLOAT) for v in conv.input]
    back = onnx.helper.make_node("Cast", ["wide"], [conv.output[0]], to=onnx.TensorProto.FLOAT16)
    conv.input[:] = [f"{v}_w" for v in conv.input]
    conv.output[0] = "wide"
    for node in reversed(cast):
        model.graph.node.insert(at, node)
    model.graph.node.insert(at + len(cast) + 1, back)
    assert block_types(model, (PATH,))[PATH]["convolutions"] == "fp32"


def test_roles_by_name() -> None:
    assert role("net.block.cru.gwc/Conv_3", PATH) == "convolutions"
    assert role("net.block.sru/GreaterOrEqual_9", PATH) == "gate"
    assert role("net.block.cru/Sigmoid_9", PATH) == role("net.block.cru/Softmax_1", PATH) == "fuse"
    assert role("net.block.sru/Sigmoid_9", PATH) is None
    assert role("net.blocks/Conv_3", PATH) is None
    assert role("cru/Sigmoid_1", "") == "fuse"


def test_widest_and_lowest() -> None:
    assert widest(["fp16", "fp32", "int32"]) == "fp32"
    assert lowest(["fp16", "fp32", "int32", "int8"]) == "int8"
    assert widest(["bool"]) is lowest([]) is None
