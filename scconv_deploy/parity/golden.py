"""Golden samples of an artifact whose outputs are not PyTorch's: what it gave at the export, and gives again or not.

Untrained or hard-gated networks magnify rounding: int8 of one misses every end-to-end limit although each of its
pieces was proved, and the export says AMBIGUOUS. PyTorch's outputs prove nothing of such a bundle afterwards; its
own do. They are kept only where they are needed, so that an ordinary bundle holds the reference's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from scconv_deploy.config import Budgets
from scconv_deploy.metrics import judge
from scconv_deploy.parity.budgets import Settled
from scconv_deploy.verdicts import Comparison, GoldenSamples, ParityReport, Verdict

OWN_CASE = "its own outputs at the export"


def with_own_outputs(
    golden: GoldenSamples, made: Sequence[Mapping[str, np.ndarray]], settled: Settled
) -> GoldenSamples:
    """The samples, and with them ``made`` where any of it misses the default limit.

    Args:
        golden: inputs and the reference's outputs.
        made: what runs of the artifact gave, float32: as it was judged, and as it is served here where types were
            simulated for the judgement.
        settled: the limits; those of the user are not asked, since no one sets them again when the bundle is opened.
    """
    limits = replace(settled, budgets=Budgets(tf32=settled.budgets.tf32))
    missed = [
        name
        for outputs in made
        for name, want in golden.outputs.items()
        if judge(OWN_CASE, name, want, outputs[name], limits.tolerance(name)).verdict is Verdict.FAIL
    ]
    same_shape = all(m[n].shape == golden.outputs[n].shape for m in made for n in golden.outputs)
    if not missed or not same_shape:
        return golden
    return replace(golden, own={n: np.stack([m[n] for m in made]) for n in golden.outputs})


def gives_again(
    report: ParityReport, golden: GoldenSamples, got: Mapping[str, np.ndarray], settled: Settled
) -> ParityReport:
    """A comparison of ``got`` with the reference's golden outputs -> the same, or AMBIGUOUS where it failed as the
    export itself did: every output that misses is the one that the artifact gave then.

    A limit that the user sets is one on the distance to PyTorch, and stays missed.
    """
    missed = [c.output for c in report.comparisons if c.verdict is Verdict.FAIL]
    if report.verdict is not Verdict.FAIL or not missed or any(settled.asked(name) for name in missed):
        return report
    if not set(missed) <= set(golden.own):
        return report
    again = [_nearest(name, golden.own[name], got[name], settled) for name in missed]
    both = replace(report, comparisons=(*report.comparisons, *again))
    if any(c.verdict is Verdict.FAIL for c in again):
        return replace(both, sentence=f"{report.sentence}; nor does it give {OWN_CASE}")
    worst = max(c.metrics.max_abs for c in again)
    sentence = (
        f"gives {OWN_CASE} again, largest difference {worst:.2g}; they were not PyTorch's then either: "
        f"{report.sentence}"
    )
    return replace(both, verdict=Verdict.AMBIGUOUS, sentence=sentence)


def _nearest(name: str, own: np.ndarray, got: np.ndarray, settled: Settled) -> Comparison:
    found = [judge(OWN_CASE, name, one, got, settled.tolerance(name)) for one in own]
    return min(found, key=lambda c: c.metrics.max_abs)
