"""End-to-end comparisons and piece checks -> one verdict with one sentence.

| pieces | end to end | verdict |
|---|---|---|
| an SCConv block fails | any | FAIL, naming the first piece |
| the rest fails | fail, or the rest has no gates of its own | FAIL, naming the first piece |
| the rest fails, and has gates (uncertified or uncut blocks) | pass | PASS |
| all pass | pass | PASS |
| all pass | fail, but the artifact agrees with float64 truth everywhere: PyTorch flipped a gate | PASS |
| all pass and cover the graph | fail, and the user's own module is as far from float64 truth | AMBIGUOUS |
| all pass | fail otherwise | FAIL |
| none could be cut | pass / fail | PASS / FAIL |

AMBIGUOUS (rounding at the gates) promotes the artifact: every piece of it was proved, and the end-to-end
figure says nothing about the export, since PyTorch itself misses it. The gate-aware verdict (flips counted,
gates forced) refines this.
"""

from __future__ import annotations

from collections.abc import Sequence

from scconv_deploy.parity.piecewise import PieceChecks
from scconv_deploy.tolerances import AMBIGUOUS_FACTOR
from scconv_deploy.verdicts import Comparison, ParityReport, Tolerance, Verdict


def decide(
    subject: str,
    tolerance: Tolerance,
    comparisons: Sequence[Comparison],
    against_float64: Sequence[Comparison],
    reference_against_float64: Sequence[Comparison],
    pieces: PieceChecks,
    has_other_gates: bool,
    artifact_executed: bool,
    notes: Sequence[str],
) -> ParityReport:
    """Apply the table above. ``has_other_gates``: SCConv-like modules were left as ordinary PyTorch, so the
    layers outside the certified blocks may be discontinuous too (as they are where blocks stayed uncut)."""
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL]
    smooth = not has_other_gates and not pieces.uncut
    broken = [
        p
        for p in pieces.checks
        if p.verdict is Verdict.FAIL and (p.piece in pieces.blocks or smooth or failed)
    ]
    first: str | None = None
    if broken:
        first = broken[0].piece
        verdict = Verdict.FAIL
        sentence = f"the graph differs from PyTorch, first at {first}: {broken[0].sentence}"
    elif any(not c.metrics.finite for c in failed):
        verdict, bad = Verdict.FAIL, next(c for c in failed if not c.metrics.finite)
        sentence = f"{bad.case}: {bad.sentence}"
    elif failed and against_float64 and all(c.verdict is Verdict.PASS for c in against_float64):
        # On the digits sample PyTorch's own fp32 sigmoid flips one gate in 450 images; the artifact does not.
        verdict = Verdict.PASS
        worst = max(c.metrics.max_abs for c in against_float64)
        sentence = (
            f"agrees with the model's float64 result on {len(against_float64)} comparisons, largest "
            f"difference {worst:.2g}; the PyTorch model's own float32 is what differs ({_worst(failed)})"
        )
    elif failed and pieces.complete and _itself_as_far(against_float64, reference_against_float64):
        verdict = Verdict.AMBIGUOUS
        sentence = (
            f"every piece agrees with PyTorch, but end to end {_worst(failed)}; the PyTorch model itself is "
            "as far from its own float64 result, because gates at the threshold flip with rounding"
        )
    elif failed:
        verdict = Verdict.FAIL
        sentence = f"end to end, {_worst(failed)}"
        if pieces.checks:
            sentence += "; no single SCConv block is at fault"
    else:
        verdict = Verdict.PASS
        worst = max((c.metrics.max_abs for c in comparisons), default=0.0)
        sentence = f"agrees with PyTorch on {len(comparisons)} comparisons, largest difference {worst:.2g}"
        agreeing = sum(p.verdict is Verdict.PASS for p in pieces.checks)
        if agreeing:
            sentence += f"; {agreeing} pieces agree one by one"
    return ParityReport(
        verdict=verdict,
        sentence=sentence,
        subject=subject,
        tolerance=tolerance,
        comparisons=tuple(comparisons),
        against_float64=tuple(against_float64),
        reference_against_float64=tuple(reference_against_float64),
        pieces=pieces.checks,
        first_divergent_block=first,
        artifact_executed=artifact_executed,
        notes=tuple(notes),
    )


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
