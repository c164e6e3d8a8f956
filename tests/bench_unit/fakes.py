"""Backends whose durations the test decides: on a clock of its own, or in a real worker process.

No torch here: a worker process imports this module, and so do dozens of tests.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from scconv_deploy.bench.openers import Opened
from scconv_deploy.bench.workers import LocalWorker
from scconv_deploy.errors import CapabilityError

MS = 1_000_000


@dataclass(frozen=True)
class CallOpener:
    """Opens a function, in this process only."""

    call: Callable[[], object]

    def prepare(self, threads: int) -> None: ...

    @contextlib.contextmanager
    def open(self, threads: int, arrays: Mapping[str, np.ndarray]) -> Iterator[Opened]:
        yield Opened(self.call)


class FakeMachine:
    """A clock that only calls and pauses move, with a slowness that may change over time."""

    def __init__(self, slowness: Callable[[float], float] = lambda _: 1.0) -> None:
        self.now = 0
        self.order: list[str] = []
        self.slowness = slowness

    def clock(self) -> int:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)

    def worker(self, name: str, duration: Callable[[int], float]) -> LocalWorker:
        """A backend whose n-th call takes ``duration(n)`` milliseconds on an undisturbed machine."""
        count = 0

        def call() -> None:
            nonlocal count
            self.order.append(name)
            self.now += round(duration(count) * self.slowness(self.now / 1e9) * MS)
            count += 1

        worker = LocalWorker(name, CallOpener(call), 1, {}, self.clock)
        worker.open()
        return worker


@dataclass(frozen=True)
class Script:
    """A backend for a worker process: counts its calls and misbehaves as told."""

    die_at: int = -1
    """The call at which the process kills itself."""
    refuse: bool = False
    chatter: bool = False
    say: str = ""

    def prepare(self, threads: int) -> None: ...

    @contextlib.contextmanager
    def open(self, threads: int, arrays: Mapping[str, np.ndarray]) -> Iterator[Opened]:
        if self.refuse:
            raise CapabilityError("this fake has no device here")
        count = 0
        total = sum(float(a.sum()) for a in arrays.values())

        def call() -> float:
            nonlocal count
            if count == self.die_at:
                if self.say:
                    os.write(2, self.say.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            if self.chatter:
                print("a library that writes to standard output", flush=True)
            count += 1
            return total

        yield Opened(call)


class Unpicklable:
    """Unpickles nowhere but where it was made."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return _only_here, (str(os.getpid()),)

    def prepare(self, threads: int) -> None: ...


def _only_here(pid: str) -> object:
    raise ImportError(f"no module named 'of_process_{pid}'")
