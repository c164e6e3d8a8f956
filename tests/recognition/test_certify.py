"""Broken twins: a module that computes almost the specification must never be certified as it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.recognition.attempt import Accepted, Benches, Refused, attempt
from scconv_deploy.recognition.certify import Bench, Witness, distance, judge, other_comparison, runner_up
from scconv_deploy.recognition.probe import Draft, general_probes
from scconv_deploy.recognition.propose import Proposal
from scconv_deploy.recognition.rivals import rivals
from scconv_deploy.scconv.reference import ReferenceSCConv, family_spec
from scconv_deploy.scconv.spec import Comparison, SCConvSpec

C = 16
FAMILIES = ("paper", "F0", "F1", "F2", "F3")


def accepted(module: nn.Module) -> Accepted:
    result = attempt(module, Benches(0))
    assert isinstance(result, Accepted), result
    return result


def court(family: str, module: nn.Module | None = None) -> tuple[Witness, Bench, Proposal]:
    """The reference of a family on the stand, with probes, and the right proposal."""
    torch.manual_seed(0)
    spec = family_spec(family, C)
    reference = ReferenceSCConv(spec)
    found = accepted(reference)
    twin = (module or reference).double().eval()
    names = tuple(dict.fromkeys(found.proposal.roles.values()))
    witness = Witness(twin, names)
    shapes = {n: tuple(t.shape) for n, t in witness.stored.items()}
    draft = Draft(shapes, found.proposal.roles["gamma"], found.proposal.roles["beta"], 0, (1e-5, 1e-8))
    bench = Bench(draft, tuple(general_probes(draft, C, ((4, 4), (6, 8)))), (2, C, 4, 4))
    return witness, bench, found.proposal


class Broken(ReferenceSCConv):
    """The reference with one line changed."""

    damage: Callable[[Tensor], Tensor] = staticmethod(lambda y: y)

    def forward(self, x: Tensor) -> Tensor:
        return self.damage(super().forward(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_specification_is_accepted(family: str) -> None:
    witness, bench, proposal = court(family)
    verdict = judge(witness, bench, proposal)
    assert verdict.accepted
    assert verdict.edges >= 3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_rival_is_refuted(family: str) -> None:
    witness, bench, proposal = court(family)
    best = runner_up(witness, bench, proposal)
    assert not isinstance(best, str)
    assert best[0] is not None
    assert len(list(rivals(proposal.spec))) >= 15


@pytest.mark.parametrize("family", ["F1", "F3"])
def test_gt_for_ge_is_refuted_only_at_the_tie(family: str) -> None:
    witness, bench, proposal = court(family)
    verdict = judge(witness, bench, other_comparison(proposal), proposal)
    assert not verdict.accepted
    assert verdict.refuted_at_tie


@pytest.mark.parametrize(
    "damage",
    [
        lambda y: 2.0 * y,
        lambda y: torch.cat(y.chunk(2, 1)[::-1], 1),
        lambda y: y + 1e-6,
        lambda y: y.float().double(),
        lambda y: torch.where(y > 0, y, 0.999 * y),
    ],
    ids=["doubled", "swapped halves", "shifted", "rounded to float32", "leaky"],
)
def test_damaged_outputs_are_refused(damage: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    module = Broken(family_spec("F3", C))
    module.damage = damage  # type: ignore[method-assign]
    result = attempt(module, Benches(0))
    assert isinstance(result, Refused)
    assert result.looks_like


def test_a_dropped_bias_is_refused() -> None:
    torch.manual_seed(0)
    module = ReferenceSCConv(family_spec("F3", C))
    result = accepted(module)
    witness, bench, proposal = court("F3")
    roles = {role: name for role, name in result.proposal.roles.items() if role != "gwc.bias"}
    assert not judge(witness, bench, Proposal(proposal.spec, roles)).accepted
    cru = proposal.spec.cru
    assert cru is not None
    without = replace(proposal.spec, cru=replace(cru, gwc=replace(cru.gwc, bias=False)))
    assert not judge(witness, bench, Proposal(without, roles)).accepted


def test_swapped_squeezes_are_refuted() -> None:
    witness, bench, proposal = court("F1")
    assert judge(witness, bench, proposal).accepted
    roles = dict(proposal.roles)
    roles["squeeze_up.weight"], roles["squeeze_low.weight"] = (
        roles["squeeze_low.weight"],
        roles["squeeze_up.weight"],
    )
    assert not judge(witness, bench, Proposal(proposal.spec, roles)).accepted


def test_fresh_weights_do_not_hide_the_gamma_weight() -> None:
    """Gamma all ones: softmax and sum give 1/C alike, and only redrawn weights tell them apart."""
    spec = family_spec("F3", C)
    assert spec.sru is not None
    soft = SCConvSpec(replace(spec.sru, gamma_weight=type(spec.sru.gamma_weight).SOFTMAX), spec.cru)
    assert accepted(ReferenceSCConv(soft)).proposal.spec == soft
    assert accepted(ReferenceSCConv(spec)).proposal.spec == spec


def test_an_unreachable_tie_keeps_the_operator_that_was_seen() -> None:
    """No float64 sigmoid equals 0.1, so > and >= are one function there; the certificate has no tie probe."""
    for comparison in Comparison:
        spec = family_spec("F3", C, threshold=0.1)
        assert spec.sru is not None
        spec = replace(spec, sru=replace(spec.sru, comparison=comparison))
        found = accepted(ReferenceSCConv(spec))
        assert found.proposal.spec == spec
        tied = accepted(ReferenceSCConv(family_spec("F3", C, threshold=0.6)))
        assert found.certificate.edge_probes == tied.certificate.edge_probes - 1


def test_distance_fails_on_nan_and_shape() -> None:
    one = torch.ones(2, 3, dtype=torch.float64)
    assert distance(one, one.clone()).agrees
    assert not distance(one, one[:1]).agrees
    assert not distance(one, None).agrees
    assert not distance(one, torch.full_like(one, float("nan"))).agrees
    assert not distance(torch.full_like(one, float("nan")), one).agrees
    assert distance(torch.full_like(one, float("nan")), torch.full_like(one, float("nan"))).agrees
