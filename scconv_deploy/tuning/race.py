"""Calls that do the same work -> which is fastest: interleaved rounds within a budget of time.

In every round each candidate has one turn, behind a pause and an unmeasured lead-in, so that a busy moment of the
machine falls on all of them. A candidate is judged by the median over rounds of its time over the first's in the
same round, with a bootstrap interval over rounds, as ``scconv-bench`` judges. The first is the rule's form: it keeps
its place unless another takes at least ``MARGIN`` less and its whole 95 % interval lies below 1. Without pause and
interval, 36 rounds on two cores gave a form that is slower a median ratio of 0.90.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from scconv_deploy.bench.rounds import PAUSE_S, Pause, Samples
from scconv_deploy.bench.statistics import ratio
from scconv_deploy.bench.stopwatch import WarmUp, lead_in, timed
from scconv_deploy.tuning.record import TimedForm

MARGIN = 0.02
"""Less is not worth another form."""

MIN_ROUNDS = 5
MAX_ROUNDS = 200
CALLS = 2
"""Timed calls of a candidate's turn."""

UNMEASURED = WarmUp(0, 0.0, False)
"""A turn's lead-in is all the warm-up there is."""

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Result:
    """``forms`` in the order given; empty where fewer than ``MIN_ROUNDS`` rounds fitted into the budget."""

    chosen: str
    rounds: int
    forms: tuple[TimedForm, ...]


def race(
    calls: Mapping[str, Callable[[], object]],
    budget_s: float,
    seed: int = 0,
    clock: Clock = time.perf_counter_ns,
    pause: Pause = time.sleep,
) -> Result:
    """Time ``calls`` (the rule's first) for about ``budget_s`` seconds and choose; ``seed`` is the bootstrap's."""
    names = list(calls)
    end = clock() + int(budget_s * 1e9)
    turns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    rounds = 0
    while rounds < MAX_ROUNDS and clock() < end:
        for name in names:
            pause(PAUSE_S)
            lead_in(calls[name], clock)
            turns[name].append(timed(calls[name], CALLS, clock))
        rounds += 1
    if rounds < MIN_ROUNDS:
        return Result(names[0], rounds, ())
    samples = {name: Samples(name, tuple(found), UNMEASURED) for name, found in turns.items()}
    forms = tuple(_judged(name, samples[name], samples[names[0]], seed) for name in names)
    faster = [f for f in forms[1:] if f.ratio <= 1 - MARGIN and f.high < 1]
    best = min(faster, key=lambda form: form.ratio, default=forms[0])
    return Result(best.name, rounds, forms)


def _judged(name: str, samples: Samples, rule: Samples, seed: int) -> TimedForm:
    estimate = ratio(samples, rule, seed)
    milliseconds = float(np.median(samples.calls)) / 1e6
    figures = (milliseconds, estimate.value, estimate.low, estimate.high)
    return TimedForm(name, *(round(value, 4) for value in figures))
