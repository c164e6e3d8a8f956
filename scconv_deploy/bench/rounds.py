"""Open backends -> the duration of every call, in interleaved rounds A B C A B C.

Machines drift (clock, neighbours, heat) over seconds; backends measured one after the other would each see
another machine. In a round every backend runs a short burst, so a ratio taken inside a round compares
neighbours in time. Every call is timed and every duration is kept: nothing is clipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scconv_deploy.contracts import Progress

TARGET_ROUNDS = 20
"""Rounds that ``duration_s`` is divided into: many enough for a bootstrap, few enough for long bursts."""

MIN_ROUNDS = 5
"""Rounds at least, however short the measurement: an interval over fewer says nothing."""

MIN_WARM_UP_CALLS = 3
"""The first call allocates; the estimate of a call's length needs some that do not."""

MAX_BURST = 10_000

PAUSE_S = 0.02
"""Between bursts of different backends. The worker threads of OpenMP and of ONNX Runtime spin for some
milliseconds after a call; without the pause they would take a core from the next backend."""

Clock = Callable[[], int]
Pause = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Backend:
    """Something to measure: ``call`` runs the network once on inputs it already holds.

    ``subject`` is what the user named (a path), ``name`` how the result is listed.
    """

    name: str
    subject: str
    call: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, per backend: unmeasured for ``warm_up_ms``, then ``duration_s`` and ``iterations`` calls."""

    warm_up_ms: int
    duration_s: float
    iterations: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Nanoseconds of every timed call of one backend, round by round (all backends have as many rounds)."""

    name: str
    rounds: tuple[np.ndarray, ...]

    @property
    def calls(self) -> np.ndarray:
        """All rounds in one array."""
        return np.concatenate(self.rounds)


def measure(
    backends: Sequence[Backend],
    plan: Plan,
    progress: Progress,
    clock: Clock = time.perf_counter_ns,
    pause: Pause = time.sleep,
) -> tuple[Samples, ...]:
    """Warm every backend up, then time bursts in rounds until each has had its duration and iterations.

    Args:
        backends: open backends; the order of a round.
        plan: how long.
        progress: hears how far the rounds are.
        clock: nanoseconds, monotonic; tests inject one they control.
        pause: waits between bursts.
    """
    bursts = [_burst(backend, plan, clock, pause) for backend in backends]
    taken: list[list[np.ndarray]] = [[] for _ in backends]
    spent, calls = [0] * len(backends), [0] * len(backends)
    rounds = 0
    while rounds < MIN_ROUNDS or not _enough(spent, calls, plan):
        for index, backend in enumerate(backends):
            pause(PAUSE_S)
            durations = _timed(backend.call, bursts[index], clock)
            taken[index].append(durations)
            spent[index] += int(durations.sum())
            calls[index] += len(durations)
        rounds += 1
        progress.update(f"round {rounds}", _fraction(rounds, spent, calls, plan))
    return tuple(Samples(b.name, tuple(t)) for b, t in zip(backends, taken, strict=True))


def _burst(backend: Backend, plan: Plan, clock: Clock, pause: Pause) -> int:
    """Warm up; returns how many calls fill this backend's share of a round."""
    pause(PAUSE_S)
    seen: list[int] = []
    start = clock()
    while len(seen) < MIN_WARM_UP_CALLS or clock() - start < plan.warm_up_ms * 1_000_000:
        before = clock()
        backend.call()
        seen.append(clock() - before)
    typical = max(float(np.median(seen)), 1.0)
    share = plan.duration_s * 1e9 / TARGET_ROUNDS
    return int(min(max(1, round(share / typical)), MAX_BURST))


def _timed(call: Callable[[], object], count: int, clock: Clock) -> np.ndarray:
    durations = np.empty(count, dtype=np.int64)
    for index in range(count):
        start = clock()
        call()
        durations[index] = clock() - start
    return durations


def _enough(spent: Sequence[int], calls: Sequence[int], plan: Plan) -> bool:
    return min(spent) >= plan.duration_s * 1e9 and min(calls) >= plan.iterations


def _fraction(rounds: int, spent: Sequence[int], calls: Sequence[int], plan: Plan) -> float:
    wanted_ns = plan.duration_s * 1e9
    parts = [rounds / MIN_ROUNDS, min(calls) / plan.iterations, min(spent) / wanted_ns if wanted_ns else 1.0]
    return min(1.0, *parts)
