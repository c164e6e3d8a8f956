"""One backend, open in this process -> load time, warm-up, timed bursts, memory and device times.

The same object serves in a worker's process (:mod:`scconv_deploy.bench.child`) and, where a module cannot
travel there, in the caller's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from scconv_deploy.bench import memory, stopwatch
from scconv_deploy.bench.openers import Opened, Opener
from scconv_deploy.bench.stopwatch import Clock, WarmUp
from scconv_deploy.measurements import GpuTimes, Memory


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening cost: from file to callable, the first call alone, and the loop's own overhead; ``notes`` as
    :class:`~scconv_deploy.bench.openers.Opened` has them."""

    load_ms: float
    first_run_ms: float
    overhead_us: float
    notes: tuple[str, ...] = ()


class Session:
    """A backend's life. ``open`` comes first, ``close`` last.

    Args:
        opener: how to open it.
        threads: it computes on.
        arrays: inputs by name, held for all calls.
        clock: nanoseconds, monotonic; tests inject one they control.
    """

    def __init__(
        self,
        opener: Opener,
        threads: int,
        arrays: Mapping[str, np.ndarray],
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self._opener, self._threads, self._arrays, self._clock = opener, threads, arrays, clock
        self._stack = ExitStack()
        self._opened: Opened | None = None
        self._base = self._loaded = 0

    def open(self) -> Opening:
        """Import the runtime, open the model, run it once.

        Raises:
            CapabilityError: the runtime or device is missing, or another provider ran than was asked for.
            InputError: the model cannot be opened or refuses the inputs.
        """
        self._opener.prepare(self._threads)
        self._base = memory.resident()
        start = self._clock()
        self._opened = self._stack.enter_context(self._opener.open(self._threads, self._arrays))
        loaded = self._clock()
        self._loaded = memory.resident()
        self._opened.call()
        done = self._clock()
        overhead = stopwatch.overhead_us(self._clock)
        return Opening((loaded - start) / 1e6, (done - loaded) / 1e6, overhead, self._opened.notes)

    def warm_up(self, warm_up_ms: int) -> WarmUp:
        """Run unmeasured until stable."""
        return stopwatch.warm_up(self._running.call, warm_up_ms, self._clock)

    def burst(self, count: int, lead_in: bool) -> np.ndarray:
        """Nanoseconds of ``count`` calls, after an unmeasured lead-in where asked."""
        if lead_in:
            stopwatch.lead_in(self._running.call, self._clock)
        return stopwatch.timed(self._running.call, count, self._clock)

    def memory(self) -> Memory:
        """Of this whole process: meaningful where the backend has a process of its own."""
        return Memory(self._base, max(0, self._loaded - self._base), max(0, memory.peak() - self._base))

    def device_times(self) -> GpuTimes | None:
        """On a GPU, a pass of its own with events between transfers and compute; None elsewhere."""
        device = self._running.device_times
        return None if device is None else device()

    def close(self) -> None:
        """Release the model."""
        self._opened = None
        self._stack.close()

    @property
    def _running(self) -> Opened:
        if self._opened is None:
            raise RuntimeError("a session is opened before it is used")
        return self._opened
