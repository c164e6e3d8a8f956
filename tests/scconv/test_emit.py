"""The emitted operators, run by ONNX Runtime in fp32, compute the reference in float64; twins do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import can_emit, emit_block
from scconv_deploy.scconv.operator import BlockCall, BlockPlan
from scconv_deploy.scconv.reference import ReferenceSCConv, constants
from scconv_deploy.scconv.spec import Comparison, Fuse, Gate, Norm, SCConvSpec, Y2Order
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size
from tests.scconv.axes import SHAPES, Shape, base, cru, flat_groups, gwc, specifications, sru, strided
from tests.scconv.test_deploy import edge_module, reference_of

TOLERANCE = 1e-4
"""fp32 against float64, relative to the largest value; a broken twin is off by more than 1e-2."""

BROKEN = 1e-2
SPECIFICATIONS = {name: spec for name, spec in specifications().items() if can_emit(spec)}
STYLES = [
    GraphStyle(where_mask=w, merged_y2=y, concat_fuse=f)
    for w, y, f in itertools.product((False, True), repeat=3)
]
OPSETS = (18, 20, 21, 23)
PATH = "net.block"


def model_of(deploy: DeploySCConv, opset: int, shape: tuple[Size, ...], path: str = PATH) -> onnx.ModelProto:
    """A graph of nothing but this block, checked in full, from float32 constants."""
    call = BlockCall(deploy.float())
    names = [f"{path}:{name}" for name in call.plan.constants]
    plan = BlockPlan.from_text(call.plan.to_text())  # as it travels through the traced graph
    nodes, small = emit_block(plan, "x", "y", names, path, shape, onnx.TensorProto.FLOAT)
    stored = [
        onnx.numpy_helper.from_array(tensor.detach().numpy(), name)
        for name, tensor in zip(names, call.buffers(), strict=True)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "block",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [*stored, *small],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return model


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def error_of(
    model: onnx.ModelProto, module: ReferenceSCConv, shapes: tuple[Shape, ...], x: torch.Tensor | None = None
) -> float:
    """Largest difference relative to the largest value; a wrong shape or NaN is infinitely wrong."""
    runner, worst = session(model), 0.0
    generator = torch.Generator().manual_seed(3)
    for n, h, w in shapes:
        given = torch.randn(n, module.spec.c_in, h, w, generator=generator) if x is None else x
        with torch.no_grad():
            want = module(given.double()).numpy()
        (got,) = runner.run(None, {"x": given.numpy()})
        if got.shape != want.shape or not np.isfinite(got).all():
            return float("inf")
        worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max().clip(1e-30)))
    return worst


def deploy_of(module: ReferenceSCConv, style: GraphStyle) -> DeploySCConv:
    """Deploy constants rounded once, from float64."""
    return DeploySCConv(module.spec, constants(module), style)


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_axis_value_dynamic_and_static(name: str) -> None:
    spec = SPECIFICATIONS[name]
    module = reference_of(spec)
    turn = list(SPECIFICATIONS).index(name)
    for index, style in enumerate(STYLES):
        opset = OPSETS[(index + turn) % len(OPSETS)]
        if (index + turn) % 3:
            model = model_of(deploy_of(module, style), opset, ("n", spec.c_in, "h", "w"))
            error = error_of(model, module, SHAPES)
        else:
            n, h, w = SHAPES[index % len(SHAPES)]
            model = model_of(deploy_of(module, style), opset, (n, spec.c_in, h, w))
            error = error_of(model, module, ((n, h, w),))
        assert error <= TOLERANCE, f"{name}, {style}, opset {opset}: {error}"


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", [("n", 8, "h", "w"), ("n", 8, 5, "w"), ("n", 8, "h", 7), (2, 8, 5, 7)])
def test_every_combination_of_known_and_free_axes(opset: int, shape: tuple[Size, ...]) -> None:
    for spec in (base(), sru(norm=Norm.GROUP_STD, groups=4), strided()):
        module = reference_of(spec)
        model = model_of(deploy_of(module, GraphStyle()), opset, shape)
        assert error_of(model, module, ((2, 5, 7),)) <= TOLERANCE


@pytest.mark.parametrize("free", [False, True])
def test_groups_that_cut_across_channels(free: bool) -> None:
    module = reference_of(flat_groups())
    shapes: tuple[Shape, ...] = ((1, 5, 6), (2, 4, 5)) if free else ((1, 5, 6),)
    shape: tuple[Size, ...] = ("n", 8, "h", "w") if free else (1, 8, 5, 6)
    model = model_of(deploy_of(module, GraphStyle()), 20, shape)
    assert error_of(model, module, shapes) <= TOLERANCE


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("gate", [Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT])
def test_gates_exactly_at_the_threshold(gate: Gate, comparison: Comparison, style: GraphStyle) -> None:
    module = edge_module(gate, comparison)
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(5))
    model = model_of(deploy_of(module, style), 20, ("n", 8, "h", "w"))
    assert error_of(model, module, ((2, 5, 7),), x) <= TOLERANCE
    for node in model.graph.node:  # the twin
        if node.op_type in ("Greater", "GreaterOrEqual"):
            node.op_type = "GreaterOrEqual" if node.op_type == "Greater" else "Greater"
    assert error_of(model, module, ((2, 5, 7),), x) > BROKEN


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fuse", Fuse)
def test_a_folded_batch_norm(style: GraphStyle, fuse: Fuse) -> None:
    module = reference_of(cru(fuse=fuse))
    scale, shift = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    deploy = deploy_of(module, style)
    assert deploy.cru is not None
    deploy.cru.fold_batch_norm(scale, shift)
    runner = session(model_of(deploy, 20, ("n", 8, "h", "w")))
    x = torch.randn(2, 8, 5, 7)
    with torch.no_grad():
        want = module(x.double()) * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    (got,) = runner.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(got, want.numpy(), atol=1e-4, rtol=0)


# Broken twins of the graph itself.


def _node(model: onnx.ModelProto, child: str, kind: str = "Conv") -> onnx.NodeProto:
    found = [n for n in model.graph.node if belongs_to(n.name, f"{PATH}.{child}") and n.op_type == kind]
    return found[0]


def swapped_halves(model: onnx.ModelProto) -> None:
    up, low = _node(model, "cru.squeeze_up"), _node(model, "cru.squeeze_low")
    up.input[0], low.input[0] = low.input[0], up.input[0]


def dropped_bias(model: onnx.ModelProto) -> None:
    del _node(model, "cru.gwc").input[2]


def no_reconstruction(model: onnx.ModelProto) -> None:
    first, second = (n for n in model.graph.node if belongs_to(n.name, f"{PATH}.sru") and _joins(n))
    first.input[1], second.input[1] = second.input[1], first.input[1]


def _joins(node: onnx.NodeProto) -> bool:
    return node.op_type == "Add" and all("Split" in name for name in node.input)


def subtracted(model: onnx.ModelProto) -> None:
    last = [n for n in model.graph.node if belongs_to(n.name, PATH)][-1]
    assert last.op_type == "Add"
    last.op_type = "Sub"


def other_eps(model: onnx.ModelProto) -> None:
    _node(model, "sru", "InstanceNormalization").attribute[0].f = 0.5


TWINS: tuple[Callable[[onnx.ModelProto], None], ...] = (
    swapped_halves,
    dropped_bias,
    no_reconstruction,
    subtracted,
    other_eps,
)


@pytest.mark.parametrize("twin", TWINS)
def test_broken_twins_are_seen(twin: Callable[[onnx.ModelProto], None]) -> None:
    module = reference_of(base())
    model = model_of(deploy_of(module, GraphStyle(merged_y2=False)), 20, ("n", 8, "h", "w"))
    assert error_of(model, module, SHAPES) <= TOLERANCE
    twin(model)
    assert error_of(model, module, SHAPES) > BROKEN


def test_a_wrong_specification_is_seen() -> None:
    """The plan says [low, PWC2] where the module has [PWC2, low]."""
    module = reference_of(base())
    assert module.spec.cru is not None
    wrong = replace(module.spec, cru=replace(module.spec.cru, y2_order=Y2Order.LOW_PWC2))
    model = model_of(DeploySCConv(wrong, constants(module), GraphStyle()), 20, ("n", 8, "h", "w"))
    assert error_of(model, module, SHAPES) > BROKEN


# Names.


def test_nodes_carry_module_paths() -> None:
    model = model_of(deploy_of(reference_of(base()), GraphStyle()), 20, ("n", 8, "h", "w"))
    names = [n.name for n in model.graph.node]
    assert len(set(names)) == len(names)
    assert all(belongs_to(name, PATH) for name in names)
    assert any(belongs_to(name, f"{PATH}.cru.gwc") for name in names)


def test_two_expansions_of_one_path_share_no_value() -> None:
    plan = BlockCall(deploy_of(reference_of(base()), GraphStyle()).float()).plan
    shape = ("n", 8, "h", "w")
    made = [
        emit_block(plan, x, y, plan.constants, PATH, shape, onnx.TensorProto.FLOAT, call)[0]
        for call, (x, y) in enumerate((("x", "m"), ("m", "y")))
    ]
    values = [value for nodes in made for node in nodes for value in node.output]
    assert len(set(values)) == len(values)


def test_the_root_block_has_no_path() -> None:
    model = model_of(deploy_of(reference_of(base()), GraphStyle()), 20, ("n", 8, "h", "w"), path="")
    names = [n.name for n in model.graph.node]
    assert not any(name.startswith(("/", ".")) for name in names)
    assert any(name.startswith("cru.gwc/") for name in names)


def test_only_zero_padding_is_emitted() -> None:
    assert can_emit(base())
    assert can_emit(SCConvSpec(base().sru, None))
    for mode in ("reflect", "replicate", "circular"):
        assert not can_emit(gwc(3, mode=mode))


def test_older_opsets_are_refused_by_the_checker() -> None:
    """Why the configuration's opsets start at 18: one lower, what is written here is not valid ONNX."""
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        model_of(deploy_of(reference_of(base()), GraphStyle()), OPSETS[0] - 1, ("n", 8, "h", "w"))


def test_a_group_of_a_large_image_is_summed_by_rows() -> None:
    """Over 400,000 elements in one go ONNX Runtime's float32 sums are off by more than rounding may explain."""
    module = reference_of(sru(norm=Norm.GROUP_STD, groups=4, eps=1e-10))
    assert module.sru is not None
    sizes = (1, 8, 448, 448)
    x = 4 + torch.randn(sizes, generator=torch.Generator().manual_seed(1))
    alone = SCConvSpec(module.spec.sru, None)
    errors = []
    for width in (sizes[3], "w"):  # a free width is summed in one go: the twin
        block = DeploySCConv(alone, constants(module), GraphStyle())
        model = model_of(block, 20, (1, 8, 448, width))
        kept = [n for n in model.graph.node if n.op_type == "Div"]
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(kept[-1].output[0]))
        (xhat,) = session(model).run(None, {"x": x.numpy()})
        flat = x.double().reshape(1, 4, -1)
        want = (flat - flat.mean(2, keepdim=True)) / flat.std(2, keepdim=True)
        errors.append(float(np.abs(xhat.reshape(1, 4, -1) - want.numpy()).max()))
    assert errors[0] < 2e-6 < errors[1], errors
