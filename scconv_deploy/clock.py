"""Stages as they run -> their seconds and one-phrase results, told to the listener."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from scconv_deploy.artifacts import StageTiming
from scconv_deploy.contracts import RunListener


class Done:
    """Collects a stage's one-phrase result."""

    result = ""

    def __call__(self, result: str) -> None:
        """Keep the phrase."""
        self.result = result


class StageClock:
    """Times stages and tells the listener; ``timings`` holds those that ended well."""

    def __init__(self, listener: RunListener) -> None:
        self.listener = listener
        self.timings: list[StageTiming] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Done]:
        """One stage; call what it yields with the result in words."""
        self.listener.started(name)
        start = time.perf_counter()
        done = Done()
        yield done
        timing = StageTiming(name, time.perf_counter() - start, done.result)
        self.timings.append(timing)
        self.listener.finished(timing)
