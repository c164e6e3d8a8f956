"""A call -> the duration of each repetition; how long it must run before that means something.

The timed loop holds two readings of the clock and the call, nothing else; what it costs itself is measured on
an empty call (``overhead_us``) and reported beside every result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Clock = Callable[[], int]
Call = Callable[[], object]

MIN_BURST = 3
"""Calls of a warm-up burst at least: a median of fewer is one call's mood."""

MAX_BURST = 10_000
WARM_UP_BURSTS = 4
"""Bursts that the warm-up's time is divided into."""

SETTLED = 0.02
"""Calls have stopped getting faster when a burst's median is within 2 % of the best burst's before it."""

PATIENCE = 10
MIN_PATIENCE_MS = 2000
MIN_PATIENCE_BURSTS = 5
"""A warm-up ends after ``PATIENCE`` times its length (2 s and five bursts at least), settled or not."""

LEAD_IN_NS = 5_000_000
"""Unmeasured running at the start of a turn; see :func:`lead_in`."""

OVERHEAD_CALLS = 2000


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How the warm-up went. ``typical_ns`` is the last burst's median."""

    calls: int
    typical_ns: float
    settled: bool


def timed(call: Call, count: int, clock: Clock = time.perf_counter_ns) -> np.ndarray:
    """Run ``count`` times; nanoseconds of every call, int64."""
    durations = np.empty(count, dtype=np.int64)
    for index in range(count):
        start = clock()
        call()
        durations[index] = clock() - start
    return durations


def warm_up(call: Call, warm_up_ms: int, clock: Clock = time.perf_counter_ns) -> WarmUp:
    """Run for ``warm_up_ms`` and on until the median of bursts stops falling, within a bound.

    Time alone is not enough: caches of compiled kernels, memory arenas and the processor's own clock settle
    after a number of calls that nobody knows beforehand.
    """
    start = clock()
    first = timed(call, MIN_BURST, clock)
    medians, calls = [float(np.median(first))], MIN_BURST
    share = warm_up_ms * 1e6 / WARM_UP_BURSTS
    size = int(min(max(MIN_BURST, share / max(medians[0], 1.0)), MAX_BURST))
    bound = max(warm_up_ms * PATIENCE, MIN_PATIENCE_MS) * 1_000_000
    while True:
        medians.append(float(np.median(timed(call, size, clock))))
        calls += size
        elapsed = clock() - start
        settled = medians[-1] >= (1 - SETTLED) * min(medians[:-1])
        patient = elapsed < bound or len(medians) < MIN_PATIENCE_BURSTS
        if (settled and elapsed >= warm_up_ms * 1_000_000) or not patient:
            return WarmUp(calls, max(medians[-1], 1.0), settled)


def lead_in(call: Call, clock: Clock = time.perf_counter_ns) -> None:
    """Run unmeasured for 5 ms, once at least, before a burst.

    A turn begins on cold caches while the threads of the one before may still spin: the first call of a turn
    took 25 % longer than the second (an SCConv-ResNet-18 in torch after ONNX Runtime, 20 ms pause), in one
    process as in two. A deployed model runs alone, so that belongs to neither.
    """
    start = clock()
    call()
    while clock() - start < LEAD_IN_NS:
        before = clock()
        call()
        if clock() <= before:  # a clock that stands still would hold us here
            return


def overhead_us(clock: Clock = time.perf_counter_ns) -> float:
    """Microseconds per iteration that the timed loop adds: the median reading of an empty call, plus the
    loop's own time around it."""

    def nothing() -> None:
        return None

    start = clock()
    timed(nothing, OVERHEAD_CALLS, clock)
    return (clock() - start) / OVERHEAD_CALLS / 1000
