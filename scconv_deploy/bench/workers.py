"""Backends that take turns: each in a process of its own, or in this one where it cannot travel.

A process each gives every backend its own memory figures, its own thread pools, and a death that the others
survive. Time is taken inside the worker, so messages cost the measurement nothing; between its turns a worker
sleeps on its input. What turns do to each other is written at ``stopwatch.lead_in``.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, cast

import numpy as np

from scconv_deploy.bench.messages import ERRORS, Order, Reply
from scconv_deploy.bench.openers import Opener
from scconv_deploy.bench.session import Opening, Session
from scconv_deploy.bench.stopwatch import Clock, WarmUp
from scconv_deploy.errors import CapabilityError
from scconv_deploy.measurements import GpuTimes, Memory

CHILD = "scconv_deploy.bench.child"
HOME = str(Path(__file__).resolve().parents[2])
"""Where this package lies: a worker must run the same one, wherever its owner found it."""

GRACE_S = 2.0
"""A worker that was told to end gets this long before it is killed."""


class WorkerDiedError(CapabilityError):
    """A backend's process ended by itself."""


class Worker(Protocol):
    """A backend that can be opened, warmed up and timed in bursts."""

    @property
    def name(self) -> str:
        """As it is listed."""

    def open(self) -> Opening:
        """Open it and run it once."""

    def warm_up(self, warm_up_ms: int) -> WarmUp:
        """Run unmeasured until stable."""

    def burst(self, count: int, lead_in: bool) -> np.ndarray:
        """Nanoseconds of ``count`` calls."""


class LocalWorker:
    """A backend in this process; a context manager."""

    own_process = False
    pid: int | None = None

    def __init__(
        self,
        name: str,
        opener: Opener,
        threads: int,
        arrays: Mapping[str, np.ndarray],
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self.name = name
        self._session = Session(opener, threads, arrays, clock)

    def open(self) -> Opening:
        """See :meth:`Session.open`."""
        return self._session.open()

    def warm_up(self, warm_up_ms: int) -> WarmUp:
        """See :meth:`Session.warm_up`."""
        return self._session.warm_up(warm_up_ms)

    def burst(self, count: int, lead_in: bool) -> np.ndarray:
        """See :meth:`Session.burst`."""
        return self._session.burst(count, lead_in)

    def memory(self) -> Memory | None:
        """Unknown: this process holds much else."""
        return None

    def device_times(self) -> GpuTimes | None:
        """See :meth:`Session.device_times`."""
        return self._session.device_times()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()


class ProcessWorker:
    """A backend in a process of its own; a context manager that never leaves one behind.

    Args:
        name: for the sentence if it dies.
        opener: travels to the process.
        threads: it computes on.
        inputs: ``.npz`` by input name.
    """

    own_process = True

    def __init__(self, name: str, opener: Opener, threads: int, inputs: Path) -> None:
        self.name = name
        self._order = Order(opener, threads, inputs)
        self._doing = "starting"

    def __enter__(self) -> Self:
        """Start the process; it imports while others do."""
        self._said = tempfile.TemporaryFile()
        # -P: the current folder, which may be a stranger's, is not searched for modules.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, (HOME, os.environ.get("PYTHONPATH")))),
            },
        )
        with contextlib.suppress(BrokenPipeError):  # a process that died at once says so when it is asked
            self._write(list(sys.path))
        return self

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def open(self) -> Opening:
        """See :meth:`Session.open`. Raises WorkerDiedError too, as every request does."""
        return cast(Opening, self._ask("start", "opening", self._order))

    def warm_up(self, warm_up_ms: int) -> WarmUp:
        """See :meth:`Session.warm_up`."""
        return cast(WarmUp, self._ask("warm_up", "warming up", warm_up_ms))

    def burst(self, count: int, lead_in: bool) -> np.ndarray:
        """See :meth:`Session.burst`."""
        return cast(np.ndarray, self._ask("burst", "being timed", count, lead_in))

    def memory(self) -> Memory | None:
        """Of its process."""
        return cast(Memory, self._ask("memory", "being asked for its memory"))

    def device_times(self) -> GpuTimes | None:
        """See :meth:`Session.device_times`."""
        return cast("GpuTimes | None", self._ask("device_times", "being timed on its device"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            # After an error or Ctrl-C nobody waits for a call that may take minutes.
            self._process.wait(0 if kind else GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _ask(self, verb: str, doing: str, *arguments: object) -> object:
        self._doing = doing
        assert self._process.stdout is not None
        try:
            self._write((verb, arguments))
            reply = cast(Reply, pickle.load(self._process.stdout))  # noqa: S301 - from our own child process
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise WorkerDiedError(self._last_words()) from error
        if reply.error is not None:
            raise ERRORS[reply.error](reply.sentence)
        return reply.value

    def _write(self, message: Any) -> None:
        assert self._process.stdin is not None
        data = pickle.dumps(message)
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _last_words(self) -> str:
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return f"the process of {self.name} answered nonsense while {self._doing}"
        how = f"exit code {code}" if code >= 0 else _signal_name(-code)
        self._said.seek(0)
        lines = self._said.read()[-4000:].decode(errors="replace").strip().splitlines()
        words = f"; its last words: {lines[-1].strip()[:200]}" if lines else ""
        return f"the process of {self.name} died while {self._doing} ({how}){words}"


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}; the machine may have run out of memory" if name == "SIGKILL" else name
