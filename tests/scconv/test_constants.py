"""The gamma weight to the last bit, the gate's logit, and the comparison."""

from __future__ import annotations

import math

import pytest
import torch

from scconv_deploy.scconv.constants import above, gamma_weight, gate_logit
from scconv_deploy.scconv.reference import ReferenceSRU
from scconv_deploy.scconv.spec import Comparison, GammaWeight, SCConvSpec, SRUSpec
from tests.scconv.axes import specifications, sru

GAMMA_CASES = {n: s for n, s in specifications().items() if n.startswith("gamma ")}


def sru_spec(spec: SCConvSpec) -> SRUSpec:
    assert spec.sru is not None
    return spec.sru


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", GAMMA_CASES)
def test_gamma_weight_equals_the_source_to_the_last_bit(name: str, dtype: torch.dtype) -> None:
    spec = sru_spec(GAMMA_CASES[name])
    torch.manual_seed(0)
    module = ReferenceSRU(spec).to(dtype)
    for _ in range(20):
        with torch.no_grad():
            module.gamma.normal_()
            assert torch.equal(gamma_weight(module.gamma.detach(), spec), module.gamma_weight())


def test_order_of_summation_matters_so_the_test_above_can_fail() -> None:
    # 8 channels seldom tell; 512 channels of float32 do: a pairwise sum is not the left-to-right one.
    spec = SRUSpec(
        **{**{f: getattr(sru_spec(sru()), f) for f in SRUSpec.__dataclass_fields__}, "channels": 512}
    )
    torch.manual_seed(0)
    gamma = torch.randn(512)
    module = ReferenceSRU(spec)
    with torch.no_grad():
        module.gamma.copy_(gamma)
        assert torch.equal(gamma_weight(gamma, spec), module.gamma_weight())
    assert not torch.equal(gamma / gamma.sum(), module.gamma_weight())


def test_negative_and_vanishing_sums_are_not_repaired() -> None:
    spec = sru_spec(sru())
    negative = torch.tensor([1.0, -2, 0.5, -1, 0, 0, 0, 0])
    assert torch.equal(gamma_weight(negative, spec), negative / -1.5)
    zero = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])
    assert torch.isinf(gamma_weight(zero, spec)).all()


def test_none_is_all_ones() -> None:
    spec = sru_spec(sru(gamma_weight=GammaWeight.NONE))
    assert torch.equal(gamma_weight(torch.randn(8), spec), torch.ones(8))


@pytest.mark.parametrize("threshold", [1e-6, 0.1, 0.5, 0.7, 0.999])
def test_logit_inverts_the_sigmoid(threshold: float) -> None:
    logit = gate_logit(threshold)
    assert isinstance(logit, float)
    assert 1 / (1 + math.exp(-logit)) == pytest.approx(threshold, rel=1e-14)


def test_logit_of_one_half_is_exactly_zero() -> None:
    assert gate_logit(0.5) == 0.0


@pytest.mark.parametrize(("threshold", "mask"), [(-3.0, True), (0.0, True), (1.0, False), (1.5, False)])
def test_outside_the_open_interval_the_mask_is_constant(threshold: float, mask: bool) -> None:
    assert gate_logit(threshold) is mask


def test_above_differs_only_at_the_bound() -> None:
    value = torch.tensor([-1.0, 0.0, 1.0])
    assert above(value, 0.0, Comparison.GT).tolist() == [False, False, True]
    assert above(value, 0.0, Comparison.GE).tolist() == [False, True, True]
