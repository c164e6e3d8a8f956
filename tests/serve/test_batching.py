"""Which requests run together, what waits, what is refused, and that nobody gets another's answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait

import numpy as np
import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.serve.batching import Answer, Batcher
from scconv_deploy.serve.failures import DeadlineError, DrainingError, QueueFullError
from scconv_deploy.serve.settings import BatchLimits

LONG = 30.0


class Engine:
    """Doubles its input; holds every call until ``gate`` opens, and remembers the batches."""

    def __init__(self, *, opened: bool = True) -> None:
        self.gate = threading.Event()
        if opened:
            self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = inputs["x"]
        self.batches.append(len(x))
        self.entered.set()
        assert self.gate.wait(LONG)
        if (x < 0).any():
            raise InputError("negative")
        return {"y": 2 * x}


class Seen:
    """Remembers what the batcher tells."""

    def __init__(self) -> None:
        self.depths: list[int] = []
        self.runs: list[tuple[int, int]] = []

    def queued(self, depth: int) -> None:
        self.depths.append(depth)

    def ran(self, samples: int, requests: int, seconds: float) -> None:
        assert seconds >= 0
        self.runs.append((samples, requests))


def sample(value: float, count: int = 1, width: int = 3) -> dict[str, np.ndarray]:
    return {"x": np.full((count, width), value, np.float32)}


def batcher(run: Callable[..., dict[str, np.ndarray]], *, stackable: bool = True, **limits: float) -> Batcher:
    return Batcher(run, BatchLimits(**limits), stackable=stackable, observer=Seen())  # type: ignore[arg-type]


def held(engine: Engine, made: Batcher) -> Future[Answer]:
    """One request inside the engine, which waits: what comes now must queue."""
    first = made.submit(sample(100.0), LONG)
    assert engine.entered.wait(LONG)
    return first


def values(futures: list[Future[Answer]]) -> list[float]:
    wait(futures, LONG)
    return [float(f.result(0).outputs["y"][0, 0]) for f in futures]


def test_what_waits_runs_together_and_everybody_gets_his_own() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, max_batch=8)
    first = held(engine, made)
    futures = [made.submit(sample(i, count=1 + i % 2), LONG) for i in range(5)]
    engine.gate.set()
    assert values([first, *futures]) == [200.0, 0.0, 2.0, 4.0, 6.0, 8.0]
    assert [f.result().outputs["y"].shape[0] for f in futures] == [1, 2, 1, 2, 1]
    assert engine.batches == [1, 7]
    assert futures[0].result().batch == 7
    assert made.close(LONG)


def test_a_batch_is_never_larger_than_allowed_and_order_is_kept() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, max_batch=4)
    first = held(engine, made)
    futures = [made.submit(sample(i, count=c), LONG) for i, c in enumerate((3, 2, 1, 4, 9))]
    engine.gate.set()
    assert values([first, *futures]) == [200.0, 0.0, 2.0, 4.0, 6.0, 8.0]
    assert engine.batches == [1, 3, 3, 4, 9]  # a request that is larger by itself runs alone
    assert made.close(LONG)


def test_other_shapes_do_not_mix() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, max_batch=8)
    first = held(engine, made)
    futures = [made.submit(sample(i, width=3 + i % 2), LONG) for i in range(4)]
    engine.gate.set()
    assert values([first, *futures]) == [200.0, 0.0, 2.0, 4.0, 6.0]
    assert engine.batches == [1, 2, 2]
    assert made.close(LONG)


def test_without_a_batch_axis_every_request_runs_alone() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, stackable=False, max_batch=8)
    first = held(engine, made)
    futures = [made.submit(sample(i), LONG) for i in range(3)]
    engine.gate.set()
    values([first, *futures])
    assert engine.batches == [1, 1, 1, 1]
    assert made.close(LONG)


def test_a_delay_waits_for_others_and_a_full_batch_does_not_wait() -> None:
    engine = Engine()
    made = batcher(engine, max_batch=3, max_delay_ms=20_000)
    futures = [made.submit(sample(i), LONG) for i in range(3)]
    assert values(futures) == [0.0, 2.0, 4.0]  # far sooner than the delay
    assert engine.batches == [3]
    patient = batcher(Engine(), max_batch=3, max_delay_ms=1)
    assert values([patient.submit(sample(5), LONG)]) == [10.0]  # the delay ends the waiting
    assert made.close(LONG)
    assert patient.close(LONG)


def test_one_bad_request_does_not_fail_its_batch() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, max_batch=8)
    first = held(engine, made)
    futures = [made.submit(sample(v), LONG) for v in (1.0, -1.0, 2.0)]
    engine.gate.set()
    wait([first, *futures], LONG)
    assert values([futures[0], futures[2]]) == [2.0, 4.0]
    with pytest.raises(InputError, match="negative"):
        futures[1].result()
    assert made.close(LONG)


def test_an_engine_that_loses_samples_is_caught() -> None:
    """The broken twin: its second output row is missing, so no one may be given the wrong row."""

    def losing(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = inputs["x"]
        return {"y": rows[:1] if len(rows) > 1 else rows}

    engine = Engine(opened=False)

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        engine(inputs)
        return losing(inputs)

    made = batcher(run, max_batch=8)
    first = held(engine, made)
    futures = [made.submit(sample(v), LONG) for v in (1.0, 2.0)]
    engine.gate.set()
    assert values([first, *futures]) == [100.0, 1.0, 2.0]  # each was run again alone
    assert made.close(LONG)


def test_a_full_queue_refuses_at_once() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, max_batch=1, queue_size=2)
    first = held(engine, made)
    kept = [made.submit(sample(i), LONG) for i in range(2)]
    with pytest.raises(QueueFullError, match="2 requests wait already"):
        made.submit(sample(9), LONG)
    assert made.depth == 2
    engine.gate.set()
    assert values([first, *kept]) == [200.0, 0.0, 2.0]
    assert made.close(LONG)


def test_what_waited_too_long_or_was_given_up_is_not_run() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, max_batch=8)
    first = held(engine, made)
    late, gone = made.submit(sample(1), 0.0), made.submit(sample(2), LONG)
    assert gone.cancel()
    kept = made.submit(sample(3), LONG)
    time.sleep(0.005)
    engine.gate.set()
    assert values([first, kept]) == [200.0, 6.0]
    with pytest.raises(DeadlineError):
        late.result(LONG)
    assert engine.batches == [1, 1]
    assert made.close(LONG)


def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    engine = Engine(opened=False)
    made = batcher(engine, max_batch=1)
    futures = [held(engine, made), made.submit(sample(1), LONG)]
    assert not made.close(0.01)  # the engine holds; what waits is told
    with pytest.raises(DrainingError):
        futures[1].result(LONG)
    with pytest.raises(DrainingError):
        made.submit(sample(2), LONG)
    engine.gate.set()
    assert values(futures[:1]) == [200.0]


def test_a_graceful_close_answers_everything() -> None:
    made = batcher(Engine(), max_batch=2)
    futures = [made.submit(sample(i), LONG) for i in range(20)]
    assert made.close(LONG)
    assert values(futures) == [2.0 * i for i in range(20)]


def test_many_threads_at_once_get_their_own_answers() -> None:
    made = batcher(Engine(), max_batch=8, instances=2, queue_size=10_000)
    wrong: list[float] = []

    def client(base: int) -> None:
        for i in range(100):
            value = float(base * 1000 + i)
            answer = made.submit(sample(value, count=1 + i % 3), LONG).result(LONG)
            if not (answer.outputs["y"] == 2 * value).all() or len(answer.outputs["y"]) != 1 + i % 3:
                wrong.append(value)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert wrong == []
    assert made.close(LONG)


def test_the_observer_hears_of_depth_and_batches() -> None:
    engine, seen = Engine(opened=False), Seen()
    made = Batcher(engine, BatchLimits(max_batch=8), stackable=True, observer=seen)
    first = held(engine, made)
    futures = [made.submit(sample(i), LONG) for i in range(3)]
    engine.gate.set()
    values([first, *futures])
    assert made.close(LONG)
    assert seen.runs == [(1, 1), (3, 3)]
    assert max(seen.depths) == 3
    assert seen.depths[-1] == 0
