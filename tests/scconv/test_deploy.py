"""The deploy module computes the reference's function, for every axis value, form and edge; twins do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.reference import ReferenceSCConv, constants, family_spec
from scconv_deploy.scconv.spec import Comparison, Fuse, Gate, SCConvSpec, Y2Order
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.agreement import worst_error
from tests.scconv.axes import SHAPES, Shape, base, cru, flat_groups, gwc, specifications, sru, uneven_cru

TOLERANCE = 1e-12
"""float64 against float64: some hundred roundings of 1.1e-16; a broken twin is off by more than 1e-3."""

BROKEN = 1e-3
SPECIFICATIONS = specifications()
STYLES = [
    GraphStyle(where_mask=w, merged_y2=y, concat_fuse=f)
    for w, y, f in itertools.product((False, True), repeat=3)
]


def reference_of(spec: SCConvSpec, seed: int = 0) -> ReferenceSCConv:
    """A reference in float64 whose every parameter is random, so that no term can hide behind a zero."""
    torch.manual_seed(seed)
    module = ReferenceSCConv(spec).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        if module.sru is not None:
            module.sru.gamma.add_(0.5)  # keeps the sum of gamma away from zero, where s would be unbounded
    return module


def inputs_for(spec: SCConvSpec, shapes: tuple[Shape, ...] = SHAPES) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(n, spec.c_in, h, w, dtype=torch.float64) for n, h, w in shapes]


def deploy_of(module: ReferenceSCConv, style: GraphStyle | None = None) -> DeploySCConv:
    return DeploySCConv(module.spec, constants(module), style)


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_axis_value_in_every_style(name: str) -> None:
    spec = SPECIFICATIONS[name]
    module = reference_of(spec)
    for style in STYLES:
        error = worst_error(module, deploy_of(module, style), inputs_for(spec))
        assert error <= TOLERANCE, f"{name} with {style}: {error}"


@pytest.mark.parametrize("style", STYLES)
def test_groups_that_cut_across_channels(style: GraphStyle) -> None:
    module = reference_of(flat_groups())
    shapes = ((1, 5, 6), (2, 4, 5), (3, 5, 5))  # H*W must make C*H*W divisible by 5
    assert worst_error(module, deploy_of(module, style), inputs_for(module.spec, shapes)) <= TOLERANCE


def test_reflect_padding() -> None:
    module = reference_of(gwc(3, mode="reflect"))  # reflect needs more than one row, so not all of SHAPES
    assert (
        worst_error(module, deploy_of(module), inputs_for(module.spec, ((1, 8, 8), (2, 5, 7)))) <= TOLERANCE
    )


# The gate's edge: s == logit(t) exactly.


def edge_module(gate: Gate, comparison: Comparison) -> ReferenceSCConv:
    """gamma_c = beta_c = 0 in half of the channels of each half: there s is exactly 0 = logit(0.5)."""
    module = reference_of(sru(gate=gate, comparison=comparison))
    assert module.sru is not None
    with torch.no_grad():
        module.sru.gamma[::2] = 0.0
        module.sru.beta[::2] = 0.0
    return module


GATES = [Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT]


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("gate", GATES)
def test_edge_inputs_agree(gate: Gate, comparison: Comparison) -> None:
    module = edge_module(gate, comparison)
    for style in STYLES:
        assert worst_error(module, deploy_of(module, style), inputs_for(module.spec)) <= TOLERANCE


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("gate", GATES)
def test_twin_with_the_other_comparison_is_caught_at_the_edge(gate: Gate, comparison: Comparison) -> None:
    module = edge_module(gate, comparison)
    twin = DeploySCConv(with_other_comparison(module.spec), constants(module))
    assert worst_error(module, twin, inputs_for(module.spec)) > BROKEN


def with_other_comparison(spec: SCConvSpec) -> SCConvSpec:
    assert spec.sru is not None
    other = Comparison.GE if spec.sru.comparison is Comparison.GT else Comparison.GT
    return replace(spec, sru=replace(spec.sru, comparison=other))


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("name", ["F1", "F2", "F3", "paper"])
def test_constant_inputs_sit_on_the_edge(name: str, comparison: Comparison) -> None:
    # xhat = 0 everywhere, beta = 0: every gate is exactly at its threshold. In group-std norm this is 0/eps.
    spec = family_spec(name, 16)
    assert spec.sru is not None
    module = reference_of(replace(spec, sru=replace(spec.sru, comparison=comparison)))
    assert module.sru is not None
    with torch.no_grad():
        module.sru.beta.zero_()
    # Constant within each group, different between the halves: otherwise crossing them changes nothing.
    x = torch.ones((2, 16, 4, 4), dtype=torch.float64)
    x[:, 8:] = 2.0
    constant = [torch.zeros_like(x), x]
    assert worst_error(module, deploy_of(module), constant) <= TOLERANCE
    if name != "F2":  # F2 gates the normalised input, which is zero here whatever the gate says
        twin = DeploySCConv(with_other_comparison(module.spec), constants(module))
        assert worst_error(module, twin, constant) > BROKEN


def test_twin_with_the_other_comparison_of_a_static_gate_is_caught() -> None:
    # Two equal gammas make w exactly 0.5 = t.
    spec = family_spec("F0", 2, squeeze=1, gwc_groups=1)
    module = reference_of(spec)
    assert module.sru is not None
    with torch.no_grad():
        module.sru.gamma.fill_(0.75)
    assert worst_error(module, deploy_of(module), inputs_for(spec)) <= TOLERANCE
    twin = DeploySCConv(with_other_comparison(spec), constants(module))
    assert worst_error(module, twin, inputs_for(spec)) > BROKEN


# Broken twins: each must be caught, in every style and with both fuses.


def doubled(deploy: DeploySCConv) -> Callable[[Tensor], Tensor]:
    return lambda x: 2 * deploy(x)


class SwappedHalves(nn.Module):
    """A DeploySRU whose halves come out in the wrong order."""

    def __init__(self, inner: nn.Module, half_channels: int) -> None:
        super().__init__()
        self.inner = inner
        self.half_channels = half_channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y_a, y_b = self.inner(x)
        return y_b, y_a


def swapped(deploy: DeploySCConv) -> Callable[[Tensor], Tensor]:
    assert deploy.sru is not None
    deploy.sru = SwappedHalves(deploy.sru, deploy.sru.half_channels)  # type: ignore[assignment]
    return deploy


def without_bias(deploy: DeploySCConv) -> Callable[[Tensor], Tensor]:
    assert deploy.cru is not None
    deploy.cru.gwc.bias = None
    return deploy


def pieces_swapped_in_y2(deploy: DeploySCConv) -> Callable[[Tensor], Tensor]:
    assert deploy.cru is not None
    conv = deploy.cru.y2
    conv.weight = nn.Parameter(conv.weight.roll(1, dims=0), requires_grad=False)
    return deploy


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fuse", Fuse)
@pytest.mark.parametrize("broken", [doubled, swapped, without_bias, pieces_swapped_in_y2])
def test_broken_twins_are_caught(
    broken: Callable[[DeploySCConv], Callable[[Tensor], Tensor]], fuse: Fuse, style: GraphStyle
) -> None:
    module = reference_of(cru(fuse=fuse))
    assert worst_error(module, deploy_of(module, style), inputs_for(module.spec)) <= TOLERANCE
    assert worst_error(module, broken(deploy_of(module, style)), inputs_for(module.spec)) > BROKEN


@pytest.mark.parametrize("role", ["squeeze_up", "squeeze_low", "gwc", "pwc1", "pwc2"])
@pytest.mark.parametrize("order", Y2Order)
def test_every_bias_counts(role: str, order: Y2Order) -> None:
    module = reference_of(SCConvSpec(None, uneven_cru(order=order)))
    weights = constants(module)
    weights[f"{role}.bias"] = torch.zeros_like(weights[f"{role}.bias"])
    assert worst_error(module, DeploySCConv(module.spec, weights), inputs_for(module.spec)) > BROKEN


@pytest.mark.parametrize("name", [n for n in SPECIFICATIONS if n.startswith("gamma ")])
def test_no_other_gamma_weight_passes(name: str) -> None:
    module = reference_of(SPECIFICATIONS[name])
    for other in (n for n in SPECIFICATIONS if n.startswith("gamma ") and n != name):
        if SPECIFICATIONS[other] != SPECIFICATIONS[name]:
            twin = DeploySCConv(SPECIFICATIONS[other], constants(module))
            assert worst_error(module, twin, inputs_for(module.spec)) > BROKEN, other


# Batch norm behind the block.


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["paper", "F0", "F1", "F2", "F3"])
def test_folded_batch_norm_equals_batch_norm_after(name: str, style: GraphStyle) -> None:
    module = reference_of(family_spec(name, 16))
    norm = nn.BatchNorm2d(16).double().eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            assert tensor is not None
            tensor.normal_()
        assert norm.running_var is not None
        norm.running_var.uniform_(0.5, 2.0)
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        assert norm.running_mean is not None
        shift = norm.bias - norm.running_mean * scale
    deploy = deploy_of(module, style)
    assert deploy.cru is not None
    deploy.cru.fold_batch_norm(scale, shift)
    wanted = nn.Sequential(module, norm)
    assert worst_error(wanted, deploy, inputs_for(module.spec)) <= TOLERANCE
    deploy.cru.fold_batch_norm(scale, torch.zeros_like(shift))
    assert worst_error(wanted, deploy, inputs_for(module.spec)) > BROKEN


# What the rewrites are for.


def test_comparison_form_keeps_gates_that_bfloat16_sigmoid_loses() -> None:
    spec = family_spec("paper", 256)
    torch.manual_seed(0)
    module = ReferenceSCConv(SCConvSpec(spec.sru, None)).eval()
    x = torch.randn(1, 256, 16, 16).bfloat16()
    exact, half = module.double(), deploy_of(module).bfloat16()
    with torch.no_grad():
        truth = exact(x.double())
        ours = half(x)
        naive = module.bfloat16()(x)
    wrong = (ours.double() - truth).abs() > 0.1
    wrong_naive = (naive.double() - truth).abs() > 0.1
    assert wrong.double().mean() < 0.005
    assert wrong_naive.double().mean() > 0.1


def test_deploy_module_has_no_trainable_parameter_and_survives_a_cast() -> None:
    module = reference_of(base())
    deploy = deploy_of(module)
    assert not [p for p in deploy.parameters() if p.requires_grad]
    assert deploy.sru is not None
    assert deploy.sru.half().gate_scale.dtype is torch.float16  # nn.Module.half must not be shadowed
