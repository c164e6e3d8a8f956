"""A candidate specification against the user's own module in float64, probe by probe -> agreed or refuted.

A specification is accepted iff the deploy module agrees on every probe: redrawn weights, the stored ones,
and inputs at and on both sides of the gate's threshold. Then its *rivals*, every specification one axis away,
must each be refuted on the same probes or be proved equal; otherwise nothing is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from scconv_deploy.errors import InputError
from scconv_deploy.recognition.edges import edge_probes, tied_logit
from scconv_deploy.recognition.equality import proved_equal
from scconv_deploy.recognition.observe import tensors
from scconv_deploy.recognition.private import call
from scconv_deploy.recognition.probe import Draft, Probe, Weights, open_probe
from scconv_deploy.recognition.propose import Proposal
from scconv_deploy.recognition.rivals import rivals
from scconv_deploy.recognition.variants import describe
from scconv_deploy.scconv.constants import gamma_weight
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.deploy_cru import DeployCRU
from scconv_deploy.scconv.spec import Comparison, Gate, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle

REL_TOL = 1e-10
"""Largest accepted |difference| / max |output| per probe. Float64 rounding of these operators is about 1e-14;
every rival must differ by more than this on some probe, or nothing is accepted."""
CONDITION_TOL = 1e-14
"""Added to REL_TOL per unit of the stored gamma's condition number sum|gamma| / |sum gamma|."""

SRU_ROLES = ("gamma", "beta", "weight", "mask")

Shape = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Distance:
    """Largest absolute difference on one probe, the output's scale, and whether it is within tolerance."""

    absolute: float
    scale: float
    agrees: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """Outcome of one candidate: all probes agreed, or the first that did not."""

    accepted: bool
    worst: float
    probes: int
    edges: int
    refuted_by: str | None = None
    refuting_error: float = 0.0

    @property
    def refuted_at_tie(self) -> bool:
        """Only the strictness of the comparison may be wrong."""
        return self.refuted_by is not None and "tie" in self.refuted_by


@dataclass(slots=True)
class Witness:
    """The user's module as a private copy whose live tensors can be set; outputs are kept per probe."""

    module: nn.Module
    names: tuple[str, ...]
    stored: dict[str, Tensor] = field(init=False)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    targets: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        found = tensors(self.module)
        self.targets = {n: found[n] for n in self.names}
        self.stored = {n: t.detach().clone() for n, t in self.targets.items()}

    def says(self, probe: Probe, key: str) -> Tensor:
        """The module's own output on a probe."""
        if key not in self.outputs:
            self._set(self.stored if probe.theirs is None else probe.theirs)
            self.outputs[key] = call(self.module, probe.x)
            self._set(self.stored)
        return self.outputs[key]

    def _set(self, weights: Weights) -> None:
        with torch.no_grad():
            for name, target in self.targets.items():
                target.copy_(weights[name])


@dataclass(slots=True)
class Bench:
    """Probes for one pattern of shapes, with the deploy outputs that modules of that pattern share."""

    draft: Draft
    general: tuple[Probe, ...]
    shape: Shape
    expected: dict[object, Tensor | None] = field(default_factory=dict)
    edges: dict[object, tuple[Probe, ...]] = field(default_factory=dict)
    crus: dict[object, DeployCRU] = field(default_factory=dict)
    opened: Probe | None = None
    accepted: list[Proposal] = field(default_factory=list)
    runner_up: dict[object, tuple[str | None, float | None]] = field(default_factory=dict)

    def edge_probes(self, proposal: Proposal) -> tuple[Probe, ...]:
        """The probes at this candidate's own threshold."""
        if proposal.key not in self.edges:
            made = edge_probes(self.draft, proposal.spec, proposal.roles, self.shape)
            self.edges[proposal.key] = tuple(made)
        return self.edges[proposal.key]

    def expects(self, proposal: Proposal, probe: Probe, key: str, stored: Weights) -> Tensor | None:
        """The deploy module's output; None where the specification cannot run on this input."""
        if probe.ours is None:
            return self._run(proposal, stored, probe.x, {})
        place = (proposal.key, key)
        if place not in self.expected:
            self.expected[place] = self._run(proposal, probe.ours, probe.x, self.crus)
        return self.expected[place]

    def _run(
        self, proposal: Proposal, weights: Weights, x: Tensor, crus: dict[object, DeployCRU]
    ) -> Tensor | None:
        spec = proposal.spec
        by_role = {role: weights[name] for role, name in proposal.roles.items()}
        try:
            with torch.no_grad():
                if spec.sru is None or spec.cru is None:
                    alone: Tensor = DeploySCConv(spec, by_role)(x)
                    return alone
                # Most candidates differ in the SRU only: keep the CRU's constants, which are the bulk.
                place = (spec.cru, tuple(id(t) for r, t in by_role.items() if r not in SRU_ROLES))
                if place not in crus:
                    crus[place] = DeployCRU(spec.cru, by_role, GraphStyle())
                block = DeploySCConv(SCConvSpec(spec.sru, None), by_role)
                block.spec, block.cru = spec, crus[place]
                y: Tensor = block(x)
        except (RuntimeError, InputError):
            return None  # these groups do not fit this input
        return y

    def open_probe(self) -> Probe:
        """The probe with the gate forced open."""
        if self.opened is None:
            self.opened = open_probe(self.draft, self.shape)
        return self.opened


def distance(theirs: Tensor, ours: Tensor | None, slack: float = 0.0) -> Distance:
    """Compare two outputs; NaN and infinities (a zero sum of gamma) must stand in the same places."""
    if ours is None or theirs.shape != ours.shape:
        return Distance(float("inf"), 0.0, agrees=False)
    a, b = theirs.double(), ours
    low, high = torch.aminmax(a - b) if a.numel() else (a.new_zeros(()), a.new_zeros(()))
    if bool(low.isfinite() & high.isfinite()):  # then both are finite everywhere: nearly always
        worst = max(-float(low), float(high))
        scale = max(map(abs, map(float, torch.aminmax(a)))) if a.numel() else 0.0
        return Distance(worst, scale, agrees=worst <= (REL_TOL + slack) * scale)
    same = (a == b) | (a.isnan() & b.isnan())
    error = torch.where(same, 0.0, (a - b).abs())
    worst = float(error.max()) if error.numel() else 0.0
    finite = a[a.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    if worst != worst:
        worst = float("inf")
    return Distance(worst, scale, agrees=worst <= (REL_TOL + slack) * scale)


def judge(witness: Witness, bench: Bench, proposal: Proposal, reference: Proposal | None = None) -> Judgement:
    """Compare on every probe, stopping at the first that disagrees.

    Args:
        witness: the user's module.
        bench: probes and shared outputs.
        proposal: the candidate.
        reference: whose edge probes to use; the candidate's own by default.
    """
    worst, count, edges = 0.0, 0, 0
    for probe, key in _probes(bench, reference or proposal):
        slack = _slack(bench, witness) if probe.theirs is None else 0.0
        found = distance(witness.says(probe, key), bench.expects(proposal, probe, key, witness.stored), slack)
        count += 1
        edges += probe.edge
        if not found.agrees:
            return Judgement(False, worst, count, edges, probe.name, found.absolute)
        # The probe of exact ties may hold outputs of 1e22, where a difference of 1e6 is one rounding.
        worst = max(worst, found.absolute / max(1.0, found.scale))
    return Judgement(True, worst, count, edges)


def _probes(bench: Bench, proposal: Proposal) -> Iterator[tuple[Probe, str]]:
    for probe in bench.general:
        yield probe, probe.name
    for probe in bench.edge_probes(proposal):
        yield probe, f"{probe.name} of {hash(proposal.key)}"


def _slack(bench: Bench, witness: Witness) -> float:
    """A nearly cancelling stored sum amplifies rounding by its condition number."""
    if bench.draft.gamma is None or bench.draft.weight is not None:
        return 0.0
    gamma = witness.stored[bench.draft.gamma]
    total = float(gamma.sum().abs())
    return CONDITION_TOL * float(gamma.abs().sum()) / total if total else 0.0


def runner_up(witness: Witness, bench: Bench, winner: Proposal) -> tuple[str | None, float | None] | str:
    """The nearest rival with the difference that refuted it, or a sentence on an unrefuted one."""
    if winner.key in bench.runner_up:
        return bench.runner_up[winner.key]
    best: tuple[str | None, float | None] = (None, None)
    for spec in rivals(winner.spec):
        if proved_equal(spec, winner.spec) or _same_where_it_matters(witness, bench, spec, winner.spec):
            continue
        verdict = judge(witness, bench, Proposal(spec, winner.roles), winner)
        if verdict.accepted:
            return (
                f"two specifications fit and no probe tells them apart: {describe(winner.spec)} against "
                f"{describe(spec)}"
            )
        if best[1] is None or verdict.refuting_error < best[1]:
            best = (describe(spec), verdict.refuting_error)
    bench.runner_up[winner.key] = best
    return best


def other_comparison(proposal: Proposal) -> Proposal:
    """The same candidate with ``>`` for ``>=`` or the reverse."""
    sru = proposal.spec.sru
    if sru is None:
        return proposal
    flipped = Comparison.GE if sru.comparison is Comparison.GT else Comparison.GT
    return replace(proposal, spec=replace(proposal.spec, sru=replace(sru, comparison=flipped)))


def _same_where_it_matters(witness: Witness, bench: Bench, one: SCConvSpec, other: SCConvSpec) -> bool:
    """Whether they differ in strictness only, and no tie exists that could show it.

    Dynamic gates: no float64 sigmoid equals t. Static masks: no stored weight equals t, so the mask that is
    exported is the same (and the probe with stored weights has compared it). The operator seen in the user's
    forward is kept then.
    """
    a, b = one.sru, other.sru
    if a is None or b is None or a == b or replace(a, comparison=b.comparison) != b:
        return False
    if (one.cru, one.order) != (other.cru, other.order):
        return False
    if not 0.0 < a.threshold < 1.0 or bench.draft.gamma is None:
        return False
    if a.gate is Gate.STATIC:
        return not bool((gamma_weight(witness.stored[bench.draft.gamma].reshape(-1), a) == a.threshold).any())
    return tied_logit(a.threshold) is None
