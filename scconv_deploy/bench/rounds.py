"""Open backends -> the duration of every call, in interleaved rounds A B C A B C.

Machines drift (clock, neighbours, heat) over seconds; backends measured one after the other would each see
another machine. In a round every backend runs a short burst, so a ratio taken inside a round compares
neighbours in time. Every call of a burst is timed and every duration is kept: nothing is clipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scconv_deploy.bench.stopwatch import MAX_BURST, WarmUp
from scconv_deploy.bench.workers import Worker
from scconv_deploy.contracts import Progress

TARGET_ROUNDS = 20
"""Rounds that ``duration_s`` is divided into: many enough for a bootstrap, few enough for long bursts."""

MIN_ROUNDS = 5
"""Rounds at least, however short the measurement: an interval over fewer says nothing."""

PAUSE_S = 0.02
"""Between turns. The worker threads of OpenMP and of ONNX Runtime spin for some milliseconds after a call;
without the pause the next turn's first call takes up to twice as long (68 ms instead of 37)."""

LONG_CALL_NS = 200e6
"""From this length on a turn has no lead-in: what the turn before leaves behind is a few milliseconds."""

Pause = Callable[[float], None]
AfterTurn = Callable[[], None]


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
    warm_up: WarmUp

    @property
    def calls(self) -> np.ndarray:
        """All rounds in one array."""
        return np.concatenate(self.rounds)


def measure(
    workers: Sequence[Worker],
    warm_ups: Sequence[WarmUp],
    plan: Plan,
    progress: Progress,
    pause: Pause = time.sleep,
    after_round: AfterTurn | None = None,
) -> tuple[Samples, ...]:
    """Time bursts in rounds until each backend has had its duration and iterations.

    Args:
        workers: open and warm; the order of a round.
        warm_ups: of each, which say how many calls fill a turn.
        plan: how long.
        progress: hears how far the rounds are.
        pause: waits between turns.
        after_round: is called after every round, when nothing is being timed.
    """
    share = plan.duration_s * 1e9 / TARGET_ROUNDS
    bursts = [int(min(max(1, round(share / w.typical_ns)), MAX_BURST)) for w in warm_ups]
    leads = [w.typical_ns < LONG_CALL_NS for w in warm_ups]
    taken: list[list[np.ndarray]] = [[] for _ in workers]
    spent, calls = [0] * len(workers), [0] * len(workers)
    rounds = 0
    while rounds < MIN_ROUNDS or min(spent) < plan.duration_s * 1e9 or min(calls) < plan.iterations:
        for index, worker in enumerate(workers):
            pause(PAUSE_S)
            durations = worker.burst(bursts[index], leads[index])
            taken[index].append(durations)
            spent[index] += int(durations.sum())
            calls[index] += len(durations)
        rounds += 1
        if after_round is not None:
            after_round()
        progress.update(f"round {rounds}", _fraction(rounds, spent, calls, plan))
    return tuple(
        Samples(worker.name, tuple(t), w) for worker, t, w in zip(workers, taken, warm_ups, strict=True)
    )


def _fraction(rounds: int, spent: Sequence[int], calls: Sequence[int], plan: Plan) -> float:
    wanted_ns = plan.duration_s * 1e9
    parts = [rounds / MIN_ROUNDS, min(calls) / plan.iterations, min(spent) / wanted_ns if wanted_ns else 1.0]
    return min(1.0, *parts)
