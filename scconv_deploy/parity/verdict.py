"""End-to-end comparisons and piece checks -> one verdict with one sentence.

| pieces | end to end | verdict |
|---|---|---|
| a piece fails | any | FAIL, naming the first piece |
| all pass | pass | PASS |
| all pass | fail, and the user's own module is as far from float64 truth | AMBIGUOUS: rounding at the gates |
| all pass | fail otherwise | FAIL |
| none could be cut | pass / fail | PASS / FAIL |

AMBIGUOUS promotes the artifact: every piece of it was proved, and the end-to-end figure says nothing about
the export, since PyTorch itself misses it. The gate-aware verdict (flips counted, gates forced) refines this.
"""

from __future__ import annotations

from collections.abc import Sequence

from scconv_deploy.artifacts import Comparison, ParityReport, PieceCheck, Tolerance, Verdict


def decide(
    subject: str,
    tolerance: Tolerance,
    comparisons: Sequence[Comparison],
    against_float64: Sequence[Comparison],
    reference_against_float64: Sequence[Comparison],
    pieces: Sequence[PieceCheck],
    has_other_gates: bool,
    artifact_executed: bool,
    notes: Sequence[str],
) -> ParityReport:
    """Apply the table above. ``has_other_gates``: SCConv-like modules were left as ordinary PyTorch, so the
    layers outside the certified blocks may be discontinuous too."""
    failed = [c for c in comparisons if c.verdict is Verdict.FAIL]
    broken = [p for p in pieces if p.verdict is Verdict.FAIL]
    itself_off = any(c.verdict is Verdict.FAIL for c in reference_against_float64)
    first: str | None = None
    if broken and not (has_other_gates and not failed):
        first = broken[0].piece
        verdict = Verdict.FAIL
        sentence = f"the graph differs from PyTorch, first at {first}: {broken[0].sentence}"
    elif any(not c.metrics.finite for c in failed):
        verdict, bad = Verdict.FAIL, next(c for c in failed if not c.metrics.finite)
        sentence = f"{bad.case}: {bad.sentence}"
    elif failed and pieces and itself_off:
        verdict = Verdict.AMBIGUOUS
        sentence = (
            f"every piece agrees with PyTorch, but end to end {_worst(failed)}; the PyTorch model itself is "
            "as far from its own float64 result, because gates at the threshold flip with rounding"
        )
    elif failed:
        verdict = Verdict.FAIL
        sentence = f"end to end, {_worst(failed)}"
        if pieces:
            sentence += "; no single SCConv block is at fault"
    else:
        verdict = Verdict.PASS
        worst = max((c.metrics.max_abs for c in comparisons), default=0.0)
        sentence = f"agrees with PyTorch on {len(comparisons)} comparisons, largest difference {worst:.2g}"
        if pieces:
            sentence += f"; {len(pieces)} pieces agree one by one"
    return ParityReport(
        verdict=verdict,
        sentence=sentence,
        subject=subject,
        tolerance=tolerance,
        comparisons=tuple(comparisons),
        against_float64=tuple(against_float64),
        reference_against_float64=tuple(reference_against_float64),
        pieces=tuple(pieces),
        first_divergent_block=first,
        artifact_executed=artifact_executed,
        notes=tuple(notes),
    )


def _worst(failed: Sequence[Comparison]) -> str:
    worst = max(failed, key=lambda c: c.metrics.max_abs / c.limit if c.limit else c.metrics.max_abs)
    return f"{worst.case}: {worst.sentence}"
