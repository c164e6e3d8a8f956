"""The SRU's halves, and its gate margin: how far the nearest gate really is from flipping."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scconv_deploy.scconv.deploy_sru import DeploySRU
from scconv_deploy.scconv.reference import constants
from scconv_deploy.scconv.spec import Gate, Gated, Norm, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.agreement import worst_error
from tests.scconv.axes import sru
from tests.scconv.test_deploy import BROKEN, TOLERANCE, inputs_for, reference_of

SOFT = [Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT]


def deploy(spec: SCConvSpec, beta: float | None = None) -> DeploySRU:
    module = reference_of(spec)
    if beta is not None:
        assert module.sru is not None
        torch.nn.init.constant_(module.sru.beta, beta)
    assert spec.sru is not None
    return DeploySRU(spec.sru, constants(module), GraphStyle())


def image(samples: int = 3) -> Tensor:
    return inputs_for(sru(), ((samples, 5, 7),))[0]


def flips(unit: DeploySRU, x: Tensor, shift: float) -> Tensor:
    """Gates per sample that change when the threshold's logit moves by ``shift``."""
    s = unit.logits(x)[0].flatten(1)
    return ((s > unit.logit) != (s > unit.logit + shift)).sum(dim=1)


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize("gated", Gated)
def test_the_halves_are_the_references_and_not_exchanged(gate: Gate, gated: Gated) -> None:
    spec = sru(gate=gate, gated=gated)
    module = reference_of(spec)
    unit = deploy(spec)
    reference = module.sru
    assert reference is not None
    assert unit(image())[0].shape == (3, 4, 5, 7)
    assert worst_error(reference, lambda x: torch.cat(unit(x), 1), [image()]) < TOLERANCE
    assert worst_error(reference, lambda x: torch.cat(unit(x)[::-1], 1), [image()]) > BROKEN


@pytest.mark.parametrize("gate", SOFT)
@pytest.mark.parametrize("threshold", [0.5, 0.47, 0.6])
@pytest.mark.parametrize("gated", Gated)
@pytest.mark.parametrize("norm", Norm)
def test_the_margin_is_the_shift_that_first_flips_a_gate(
    gate: Gate, threshold: float, gated: Gated, norm: Norm
) -> None:
    unit = deploy(sru(gate=gate, threshold=threshold, gated=gated, norm=norm))
    x = image()
    margin = unit.gate_margin(x)
    assert margin.shape == (3,)
    largest = unit.logits(x)[0].flatten(1).abs().amax(dim=1)
    for sample, distance in enumerate((margin * largest).tolist()):
        one = x[sample : sample + 1]
        nearer = flips(unit, one, 0.999 * distance) + flips(unit, one, -0.999 * distance)
        farther = flips(unit, one, 1.001 * distance) + flips(unit, one, -1.001 * distance)
        assert nearer.item() == 0
        assert farther.item() >= 1


def test_a_gate_on_the_threshold_has_no_margin_and_spares_the_other_samples() -> None:
    unit = deploy(sru(threshold=0.5), beta=0.0)
    x = image(2)
    x[0] = 1.5  # constant: the norm gives 0, so every gate sits on logit(0.5) = 0
    on_edge, free = unit.gate_margin(x).tolist()
    assert on_edge == 0
    assert free == unit.gate_margin(x[1:]).item() > 0


def test_the_margin_has_no_unit() -> None:
    """Ten times the gamma and beta of normalised logits leave a threshold at zero as near as it was."""
    unit = deploy(sru(threshold=0.5))
    before = unit.gate_margin(image())
    unit.gate_scale *= 10
    unit.gate_shift *= 10
    torch.testing.assert_close(unit.gate_margin(image()), before)
    unit.gate_shift += 1
    assert not torch.allclose(unit.gate_margin(image()), before)


@pytest.mark.parametrize("threshold", [-0.1, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("gate", SOFT)
def test_gates_that_cannot_flip(gate: Gate, threshold: float) -> None:
    assert deploy(sru(gate=gate, threshold=threshold)).gate_margin(image()).tolist() == [torch.inf] * 3


def test_a_static_gate_never_flips() -> None:
    unit = deploy(sru(gate=Gate.STATIC, threshold=0.1))
    margin = unit.gate_margin(image().float())
    assert margin.tolist() == [torch.inf] * 3
    assert margin.dtype == torch.float32
