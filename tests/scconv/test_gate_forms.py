"""Every way the gate is written decides as the paper's formula in float64: sign, literal, affine; twins do not."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch

from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.deploy_sru import compares_sign, gate_is_half
from scconv_deploy.scconv.reference import ReferenceSCConv, constants
from scconv_deploy.scconv.spec import Comparison, Gate, Gated, Norm, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.agreement import worst_error
from tests.scconv.axes import SHAPES, specifications, sru
from tests.scconv.test_deploy import (
    BROKEN,
    TOLERANCE,
    edge_module,
    inputs_for,
    reference_of,
    with_other_comparison,
)
from tests.scconv.test_emit import BROKEN as EMITTED_BROKEN
from tests.scconv.test_emit import TOLERANCE as EMITTED_TOLERANCE
from tests.scconv.test_emit import error_of, model_of

SIGN = GraphStyle(gate_in_half=True)
LITERAL = GraphStyle(literal_gate=True)
STYLES = [replace(s, where_mask=w) for s in (SIGN, LITERAL) for w in (False, True)]
GATES = [Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT]
SRUS = {name: spec for name, spec in specifications().items() if spec.sru is not None and "gwc" not in name}


def negative_sum(spec: SCConvSpec) -> ReferenceSCConv:
    """A sum of gamma below zero, one gamma that is zero, and a beta in that channel."""
    module = reference_of(spec)
    assert module.sru is not None
    with torch.no_grad():
        module.sru.gamma.sub_(2.5)
        module.sru.gamma[3] = 0.0
    assert float(module.sru.gamma.detach().sum()) < -1
    return module


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", SRUS)
def test_every_specification(name: str, style: GraphStyle) -> None:
    module = reference_of(SRUS[name])
    deploy = DeploySCConv(module.spec, constants(module), style)
    assert worst_error(module, deploy, inputs_for(module.spec)) <= TOLERANCE


@pytest.mark.parametrize("style", [GraphStyle(), *STYLES])
@pytest.mark.parametrize("gated", Gated)
@pytest.mark.parametrize("gate", GATES)
def test_a_negative_sum_and_a_gamma_of_zero(gate: Gate, gated: Gated, style: GraphStyle) -> None:
    module = negative_sum(sru(gate=gate, gated=gated))
    deploy = DeploySCConv(module.spec, constants(module), style)
    assert worst_error(module, deploy, inputs_for(module.spec)) <= TOLERANCE
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(5))
    model = model_of(deploy, 20, ("n", 8, "h", "w"))
    assert error_of(model, module, ((2, 5, 7),), x) <= EMITTED_TOLERANCE


@pytest.mark.parametrize("style", [GraphStyle(), SIGN])
@pytest.mark.parametrize("gate", GATES)
def test_twin_that_forgets_the_sign_of_the_sum(gate: Gate, style: GraphStyle) -> None:
    """``gamma * xhat + beta > 0`` is the gate only where the sum of gamma is positive."""
    module = negative_sum(sru(gate=gate))
    deploy = DeploySCConv(module.spec, constants(module), style)
    assert deploy.sru is not None
    weights = constants(module)
    sign = torch.sign(weights["gamma"] / weights["gamma"].sum())
    deploy.sru.gate_scale *= sign
    deploy.sru.gate_shift *= sign
    assert worst_error(module, deploy, inputs_for(module.spec)) > BROKEN
    assert error_of(model_of(deploy, 20, ("n", 8, "h", "w")), module, SHAPES) > EMITTED_BROKEN


def test_twin_without_the_magnitude_of_the_weight() -> None:
    """A soft gate's ``r`` needs the logit itself, not its sign form."""
    module = reference_of(sru(gate=Gate.SOFT))
    deploy = DeploySCConv(module.spec, constants(module), SIGN)
    assert deploy.sru is not None
    deploy.sru.magnitude.fill_(1.0)
    assert worst_error(module, deploy, inputs_for(module.spec)) > BROKEN
    assert error_of(model_of(deploy, 20, ("n", 8, "h", "w")), module, SHAPES) > EMITTED_BROKEN


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("gate", GATES)
def test_the_edge_and_its_twin(gate: Gate, comparison: Comparison, style: GraphStyle) -> None:
    module = edge_module(gate, comparison)
    deploy = DeploySCConv(module.spec, constants(module), style)
    assert worst_error(module, deploy, inputs_for(module.spec)) <= TOLERANCE
    twin = DeploySCConv(with_other_comparison(module.spec), constants(module), style)
    assert worst_error(module, twin, inputs_for(module.spec)) > BROKEN


@pytest.mark.parametrize("threshold", [0.47, 0.52])
@pytest.mark.parametrize("style", [GraphStyle(), SIGN])
def test_twin_that_compares_with_the_threshold_instead_of_its_logit(
    threshold: float, style: GraphStyle
) -> None:
    module = reference_of(sru(threshold=threshold, gate=Gate.HARD))
    deploy = DeploySCConv(module.spec, constants(module), style)
    assert worst_error(module, deploy, inputs_for(module.spec)) <= TOLERANCE
    assert deploy.sru is not None
    deploy.sru.logit = threshold
    assert worst_error(module, deploy, inputs_for(module.spec)) > BROKEN


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("gate", GATES)
def test_twin_with_the_other_constant_mask(gate: Gate, threshold: float) -> None:
    module = reference_of(sru(threshold=threshold, gate=gate))
    deploy = DeploySCConv(module.spec, constants(module))
    assert deploy.sru is not None
    assert deploy.sru.logit is (threshold <= 0)
    deploy.sru.logit = not deploy.sru.logit
    assert worst_error(module, deploy, inputs_for(module.spec)) > BROKEN


def test_where_the_sign_form_is_legal() -> None:
    def legal(**changes: object) -> bool:
        spec = sru(**changes).sru
        assert spec is not None
        return compares_sign(spec, SIGN)

    assert legal()
    assert not legal(threshold=0.51)
    assert not legal(gate=Gate.STATIC, threshold=0.1)
    assert not legal(norm=Norm.GROUP_STD)


def test_a_group_std_norm_is_never_computed_in_half() -> None:
    """Its eps of 1e-10 is zero in fp16, so that a constant group would be 0/0."""
    spec = sru(norm=Norm.GROUP_STD, eps=1e-10).sru
    assert spec is not None
    assert not gate_is_half(spec, SIGN)
    naive = DeploySCConv(SCConvSpec(spec, None), constants(reference_of(SCConvSpec(spec, None)))).half()
    assert naive(torch.ones(1, 8, 4, 4, dtype=torch.float16)).isnan().any()


def test_the_literal_form_is_written_as_asked() -> None:
    """A sigmoid right before the comparison; the exact form has none there."""
    module = reference_of(sru(gate=Gate.HARD))
    for style, wanted in ((LITERAL, True), (GraphStyle(), False)):
        model = model_of(DeploySCConv(module.spec, constants(module), style), 20, ("n", 8, "h", "w"))
        assert any(n.op_type == "Sigmoid" for n in _before_comparison(model)) is wanted


def _before_comparison(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    compared = next(n for n in model.graph.node if n.op_type.startswith("Greater")).input[0]
    return [n for n in model.graph.node if compared in n.output]
