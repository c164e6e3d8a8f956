"""Requests -> calls of the engine: those that fit together run as one batch.

One queue and ``instances`` threads per model version. A thread takes the oldest request and, with it, those behind
it that have the same shapes beyond axis 0, up to ``max_batch`` samples; it may first wait ``max_delay_ms`` for more.
Samples of a batch do not see each other in an SCConv network (its norms work per sample), so an answer does not
depend on who else was in the batch; should a batch fail, its requests are run one by one, so that only the one at
fault hears of it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from scconv_deploy.errors import InputError
from scconv_deploy.serve.failures import DeadlineError, DrainingError, QueueFullError
from scconv_deploy.serve.settings import BatchLimits

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Outputs of one request; seconds it waited and its batch computed, and the samples in that batch."""

    outputs: dict[str, np.ndarray]
    queue_s: float
    compute_s: float
    batch: int


class Observer(Protocol):
    """Hears of queue and batches; its calls are cheap."""

    def queued(self, depth: int) -> None:
        """The queue now holds so many requests."""

    def ran(self, samples: int, requests: int, seconds: float) -> None:
        """One call of the engine."""


@dataclass(slots=True)
class _Waiting:
    inputs: Arrays
    samples: int
    key: tuple[object, ...]
    deadline: float
    arrived: float
    future: Future[Answer] = field(default_factory=Future)


class Batcher:
    """Runs requests on one engine. ``stackable``: axis 0 of every input and output counts samples.

    Args:
        run: the engine; called from several threads where ``limits.instances`` is above 1.
        limits: batch, delay, queue, instances.
        stackable: without it, every request runs alone.
        observer: hears what happens.
    """

    def __init__(self, run: Run, limits: BatchLimits, *, stackable: bool, observer: Observer) -> None:
        self._run, self._limits, self._observer = run, limits, observer
        self._most = limits.max_batch if stackable else 1
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batcher-{i}", daemon=True)
            for i in range(limits.instances)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, inputs: Arrays, timeout_s: float) -> Future[Answer]:
        """Queue a request; the future fails with DeadlineError where it could not be started in time.

        Raises:
            QueueFullError: as many wait as may.
            DrainingError: this model is being taken away.
        """
        now = time.monotonic()
        first = next(iter(inputs.values()))
        samples = first.shape[0] if first.ndim else 1
        key = tuple((name, a.dtype, a.shape[1:]) for name, a in inputs.items())
        waiting = _Waiting(inputs, samples, key, now + timeout_s, now)
        with self._changed:
            if self._closing:
                raise DrainingError("the model is being replaced or the server is stopping; try again")
            if len(self._queue) >= self._limits.queue_size:
                raise QueueFullError(
                    f"{len(self._queue)} requests wait already, as many as this server lets wait; try again soon"
                )
            self._queue.append(waiting)
            self._observer.queued(len(self._queue))
            self._changed.notify()
        return waiting.future

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def close(self, timeout_s: float) -> bool:
        """Take no more; finish what waits. False where that took longer than ``timeout_s``."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        for waiting in left:
            _fail(waiting, DrainingError("the server stopped before this request could run; try again"))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._serve(batch)

    def _next_batch(self) -> list[_Waiting] | None:
        """The next requests to run together; None when all is done."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            head = self._queue[0]
            # More can only help while the batch is not full, and nobody waits for the end.
            end = head.arrived + self._limits.max_delay_ms / 1000
            while not self._closing and self._queue and self._ready_samples() < self._most:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch = self._take()
            self._observer.queued(len(self._queue))
            return batch

    def _ready_samples(self) -> int:
        """Samples at the head of the queue that could run together."""
        head = self._queue[0]
        return sum(w.samples for w in self._queue if w.key == head.key)

    def _take(self) -> list[_Waiting]:
        """Remove a batch from the queue; what is too late or given up is answered and left out."""
        batch: list[_Waiting] = []
        kept: deque[_Waiting] = deque()
        samples, now = 0, time.monotonic()
        while self._queue:
            waiting = self._queue.popleft()
            if now > waiting.deadline:
                _fail(waiting, DeadlineError("the request waited longer than its time limit"))
            elif not batch:
                if waiting.future.set_running_or_notify_cancel():
                    batch, samples = [waiting], waiting.samples
            elif waiting.key != batch[0].key:
                kept.append(waiting)
            elif samples + waiting.samples > self._most:
                # Nobody behind overtakes a request of the same shapes.
                kept.append(waiting)
                break
            elif waiting.future.set_running_or_notify_cancel():
                batch.append(waiting)
                samples += waiting.samples
        kept.extend(self._queue)
        self._queue = kept
        return batch

    def _serve(self, batch: list[_Waiting]) -> None:
        if len(batch) == 1:
            self._serve_one(batch[0])
            return
        names = batch[0].inputs.keys()
        sizes = [w.samples for w in batch]
        started = time.monotonic()
        try:
            outputs = self._run({n: np.concatenate([w.inputs[n] for w in batch]) for n in names})
            parts = _split(outputs, sizes)
        except Exception:  # noqa: BLE001 - found out below, by running each alone
            for waiting in batch:
                self._serve_one(waiting)
            return
        seconds = time.monotonic() - started
        self._observer.ran(sum(sizes), len(batch), seconds)
        for waiting, part in zip(batch, parts, strict=True):
            waiting.future.set_result(Answer(part, started - waiting.arrived, seconds, sum(sizes)))

    def _serve_one(self, waiting: _Waiting) -> None:
        started = time.monotonic()
        try:
            outputs = self._run(waiting.inputs)
        except Exception as error:  # noqa: BLE001 - it belongs to the request
            waiting.future.set_exception(error)
            return
        seconds = time.monotonic() - started
        self._observer.ran(waiting.samples, 1, seconds)
        waiting.future.set_result(Answer(outputs, started - waiting.arrived, seconds, waiting.samples))


def _split(outputs: Arrays, sizes: list[int]) -> list[dict[str, np.ndarray]]:
    """One part per request along axis 0."""
    ends = np.cumsum(sizes)
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != ends[-1]:
            raise InputError(f"output '{name}' of {ends[-1]} samples has shape {array.shape}")
    return [
        {name: array[end - size : end] for name, array in outputs.items()}
        for end, size in zip(ends, sizes, strict=True)
    ]


def _fail(waiting: _Waiting, error: Exception) -> None:
    if waiting.future.set_running_or_notify_cancel():
        waiting.future.set_exception(error)
