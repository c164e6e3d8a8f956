"""Pieces, gates, end-to-end comparisons and budgets -> one verdict with one sentence.

| pieces | gates | end to end | verdict |
|---|---|---|---|
| an SCConv block is another function | any | any | FAIL, naming its first unit at fault |
| the same function | flips outside the rounding band, or more than the budget | any | FAIL: the gate is rounded |
| the rest fails | any | fails, or the rest has no gates of its own | FAIL, naming the first piece |
| the rest fails, and has gates (uncertified or uncut blocks) | good | good | PASS |
| any | any | NaN or infinity that float64 has not | FAIL; PyTorch too in this precision: "fp16 itself" |
| any | any | a budget that the user set is missed | FAIL, naming the budget |
| all pass | good | good | PASS |
| all pass | good | missed, but float64 truth is met everywhere: PyTorch flipped a gate | PASS |
| all pass and cover the graph | good | missed on random inputs only, real samples agree; excused as below | PASS |
| all pass and cover the graph | good | missed; PyTorch in this precision is as far from truth | AMBIGUOUS |
| all pass and cover the graph | flips, all inside the band (16-bit types) | missed | AMBIGUOUS |
| all pass | good | missed otherwise | FAIL |
| none could be cut | - | good / missed | PASS / FAIL |
| any | any | the form in which the runtime opens it gives other outputs than the file as it stands | FAIL |

AMBIGUOUS (rounding at the gates) promotes the artifact: every piece of it was proved, and the end-to-end
figure says nothing about the export.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scconv_deploy.parity.piecewise import PieceChecks
from scconv_deploy.tolerances import AMBIGUOUS_FACTOR, TASK_SLACK
from scconv_deploy.verdicts import (
    Budget,
    Comparison,
    ParityReport,
    PieceCheck,
    TaskMetric,
    Tolerance,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the verdict is made of.

    ``asked`` are the budgets that the user set, ``default`` those of the precision. ``same_precision`` are the
    user's own module in the artifact's precision against truth (in fp32 that is the reference itself).
    ``has_other_gates``: SCConv-like modules were left as ordinary PyTorch, so the layers outside the certified
    blocks may be discontinuous too (as they are where blocks stayed uncut).
    """

    comparisons: Sequence[Comparison]
    against_float64: Sequence[Comparison]
    reference_against_float64: Sequence[Comparison]
    same_precision: Sequence[Comparison]
    pieces: PieceChecks
    asked: Sequence[Budget] = ()
    default: Sequence[Budget] = ()
    task: TaskMetric | None = None
    has_other_gates: bool = False
    precision: str = "fp32"
    real: frozenset[str] = frozenset()
    """Names of the cases that are the user's samples."""
    task_itself: TaskMetric | None = None
    """In int8 and fp8, top-1 agreement of the user's own module with its layers fake-quantised in PyTorch."""
    opened: str | None = None
    """What is wrong with the form in which the runtime opens the artifact here; None where nothing is."""

    @property
    def itself(self) -> Sequence[Comparison]:
        """PyTorch in the artifact's own precision against float64 truth."""
        return self.reference_against_float64 if self.precision == "fp32" else self.same_precision

    @property
    def failed(self) -> list[Comparison]:
        """End-to-end comparisons that missed their limit."""
        return [c for c in self.comparisons if c.verdict is Verdict.FAIL]

    @property
    def missed(self) -> list[Budget]:
        """Default budgets that were missed."""
        return [b for b in self.default if not b.kept]


def decide(
    evidence: Evidence, subject: str, tolerance: Tolerance, artifact_executed: bool, notes: Sequence[str]
) -> ParityReport:
    """Apply the table above."""
    broken = _broken(evidence)
    verdict, sentence = (Verdict.FAIL, _location(evidence, broken[0])) if broken else _by_the_end(evidence)
    return ParityReport(
        verdict=verdict,
        sentence=sentence,
        subject=subject,
        tolerance=tolerance,
        comparisons=tuple(evidence.comparisons),
        against_float64=tuple(evidence.against_float64),
        reference_against_float64=tuple(evidence.reference_against_float64),
        pieces=evidence.pieces.checks,
        first_divergent_block=broken[0].piece if broken else None,
        artifact_executed=artifact_executed,
        notes=tuple(notes),
        precision=evidence.precision,
        budgets=(*evidence.asked, *evidence.default),
        task=evidence.task,
        pytorch_same_precision=tuple(evidence.same_precision),
    )


def _broken(evidence: Evidence) -> list[PieceCheck]:
    """Pieces at fault; outside the blocks only where no gates of other blocks can be the reason."""
    pieces = evidence.pieces
    smooth = not evidence.has_other_gates and not pieces.uncut
    return [
        p
        for p in pieces.checks
        if p.verdict is Verdict.FAIL and (p.piece in pieces.blocks or smooth or evidence.failed)
    ]


def _location(evidence: Evidence, piece: PieceCheck) -> str:
    units = [u.unit for u in piece.units if u.verdict is Verdict.FAIL and u.unit in ("SRU", "CRU")]
    unit = f"{piece.piece}.{units[0]}" if units else piece.piece
    told = piece.sentence.removeprefix(f"{unit}: ")
    if not math.isfinite(piece.max_abs) and "itself" not in told:
        told += _type_itself(evidence)
    return f"the graph differs from PyTorch, first at {unit}: {told}"


def _type_itself(evidence: Evidence) -> str:
    """For a result that is not finite: whether PyTorch's is not either, in this precision."""
    if evidence.precision == "fp32" or all(c.metrics.finite for c in evidence.same_precision):
        return ""
    advice = "; use --precision bf16" if evidence.precision == "fp16" else ""
    return (
        f"; that is {evidence.precision} itself: the PyTorch model cast to {evidence.precision} overflows "
        f"too{advice}"
    )


def _by_the_end(evidence: Evidence) -> tuple[Verdict, str]:
    """Every piece is sound; what do the whole artifact and the budgets say?"""
    if evidence.opened is not None:
        return Verdict.FAIL, evidence.opened
    failed = evidence.failed
    endless = next((c for c in failed if not c.metrics.finite), None)
    if endless is not None:
        return Verdict.FAIL, _not_finite(evidence, endless)
    asked = [b for b in evidence.asked if not b.kept]
    if asked:
        return Verdict.FAIL, f"the budget '{asked[0].name}' is missed: {asked[0].sentence}"
    if not failed and not evidence.missed:
        return Verdict.PASS, _agreement(evidence)
    told = _worst(failed) if failed else evidence.missed[0].sentence
    truth = evidence.against_float64
    if failed and truth and all(c.verdict is Verdict.PASS for c in truth):
        # On the digits sample PyTorch's own fp32 sigmoid flips one gate in 450 images; the artifact does not.
        worst = max(c.metrics.max_abs for c in truth)
        return Verdict.PASS, (
            f"agrees with the model's float64 result on {_counted(truth)}, largest difference {worst:.2g}; "
            f"it is PyTorch's own {_own(evidence.precision)} that is off: rounding flips gates there, so a "
            f"comparison with it misses the limit ({told})"
        )
    why = _excuse(evidence)
    if why is not None and not evidence.missed and evidence.real and not _of(failed, evidence.real):
        agreed = _agreement(replace(evidence, comparisons=_of(evidence.comparisons, evidence.real)))
        return Verdict.PASS, f"{agreed}; on random inputs {told}: {why}"
    if why is not None:
        return Verdict.AMBIGUOUS, f"every piece agrees with PyTorch, but end to end {told}; {why}"
    known = "; no single SCConv block is at fault" if evidence.pieces.checks else ""
    return Verdict.FAIL, f"end to end, {told}{known}"


def _excuse(evidence: Evidence) -> str | None:
    """Why an end-to-end miss says nothing about the export, or None. Every piece must have been proved."""
    if not evidence.pieces.complete:
        return None
    if evidence.failed and _itself_as_far(evidence.against_float64, evidence.itself):
        if evidence.precision == "fp32":
            return (
                "the PyTorch model itself is as far from its own float64 result, because gates at the "
                "threshold flip with rounding"
            )
        return (
            f"that is {evidence.precision} itself: the PyTorch model cast to {evidence.precision} is as far "
            f"from its float64 result{_advice(evidence.precision)}"
        )
    itself = evidence.task_itself
    if not evidence.failed and itself is not None and _task_itself_as_low(evidence.task, itself):
        return (
            f"that is {evidence.precision} itself: {itself.name} is {itself.artifact:.4g} "
            "where PyTorch computes with every layer's input and weights rounded to codes"
        )
    flips = sum(p.gate.flips for p in evidence.pieces.checks if p.gate is not None)
    if evidence.precision in ("fp16", "bf16") and flips:
        return f"{flips} gates flip, all of them inside the rounding band of their threshold"
    return None


def _task_itself_as_low(task: TaskMetric | None, itself: TaskMetric | None) -> bool:
    """Whether PyTorch fake-quantised agrees no better than the artifact, one sample and the slack aside."""
    if task is None or itself is None:
        return False
    return itself.artifact < 1.0 and itself.artifact <= task.artifact + TASK_SLACK + 1.0 / max(
        1, task.samples
    )


def _advice(precision: str) -> str:
    return "; try --precision bf16 for range, or fp32" if precision == "fp16" else ""


def _not_finite(evidence: Evidence, bad: Comparison) -> str:
    return f"{bad.case}: {bad.sentence}{_type_itself(evidence)}"


def _agreement(evidence: Evidence) -> str:
    worst = max((c.metrics.max_abs for c in evidence.comparisons), default=0.0)
    sentence = f"agrees with PyTorch on {_counted(evidence.comparisons)}, largest difference {worst:.2g}"
    agreeing = sum(p.verdict is Verdict.PASS for p in evidence.pieces.checks)
    if agreeing:
        sentence += f"; {agreeing} pieces agree one by one"
    gates = [p.gate for p in evidence.pieces.checks if p.gate is not None]
    if gates:
        sentence += f"; {sum(g.flips for g in gates)} of {sum(g.gates for g in gates)} gates flip"
    if evidence.task is not None:
        sentence += f"; {evidence.task.name} {evidence.task.artifact:.4g} on {evidence.task.samples} samples"
    return sentence


def _of(comparisons: Sequence[Comparison], cases: frozenset[str]) -> list[Comparison]:
    return [c for c in comparisons if c.case in cases]


def _counted(comparisons: Sequence[Comparison]) -> str:
    return f"{len(comparisons)} comparison{'' if len(comparisons) == 1 else 's'}"


def _own(precision: str) -> str:
    return "float32" if precision == "fp32" else "rounding"


def _itself_as_far(artifact: Sequence[Comparison], itself: Sequence[Comparison]) -> bool:
    """Whether, at every output, the user's module misses float64 truth and the artifact does so no worse.

    A flipped gate moves both by the same order of magnitude; a broken artifact is off by more.
    """
    if not artifact or not any(c.verdict is Verdict.FAIL for c in itself):
        return False
    return all(
        _largest(artifact, output) <= max(AMBIGUOUS_FACTOR * _largest(itself, output), _limit(itself, output))
        for output in {c.output for c in artifact}
    )


def _largest(comparisons: Sequence[Comparison], output: str) -> float:
    return max((c.metrics.max_abs for c in comparisons if c.output == output), default=0.0)


def _limit(comparisons: Sequence[Comparison], output: str) -> float:
    return max((c.limit for c in comparisons if c.output == output), default=0.0)


def _worst(failed: Sequence[Comparison]) -> str:
    worst = max(failed, key=lambda c: c.metrics.max_abs / c.limit if c.limit else c.metrics.max_abs)
    return f"{worst.case}: {worst.sentence}"
