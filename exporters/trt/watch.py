"""A blocking build -> progress on the caller's thread, and a build that Ctrl-C can cancel.

The build runs on a worker thread (TensorRT releases the interpreter lock meanwhile) and the caller's thread
polls. Thus listeners are called on their own thread only, and an interrupt is raised there as Python means
it, never inside a C++ callback. The monitor merely stores numbers: a chatty one slows the build and may
change the plan (pytorch/TensorRT issue 3215).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from scconv_deploy.contracts import Progress

POLL_S = 0.1
T = TypeVar("T")


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildState:
    """What the monitor has heard: the phases now open, and whether the build should stop."""

    def __init__(self) -> None:
        self.cancelled = False
        self._phases: dict[str, _Phase] = {}
        self._furthest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins inside ``parent``."""
        self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, index: int) -> bool:
        """Step ``index`` (from 0) of a phase is complete. False asks TensorRT to stop."""
        phase = self._phases.get(name)
        if phase is not None:
            phase.done = min(index + 1, phase.steps)
        return not self.cancelled

    def finish(self, name: str) -> None:
        """The phase has ended."""
        self._phases.pop(name, None)

    def fraction(self) -> float:
        """Share of the outermost phase that is done, in [0, 1]; never falls.

        A child phase fills the step of its parent in which it runs.
        """
        phases = dict(self._phases)
        parent: str | None = None
        total, share = 0.0, 1.0
        while True:
            child = next((n for n in reversed(phases) if phases[n].parent == parent), None)
            if child is None:
                break
            phase = phases.pop(child)
            total += share * phase.done / phase.steps
            share /= phase.steps
            parent = child
        self._furthest = max(self._furthest, min(total, 1.0))
        return self._furthest


def monitor(module: ModuleType, state: BuildState) -> Any:
    """An ``IProgressMonitor`` of this module that writes into ``state``."""

    class Monitor(module.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            state.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            state.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return state.step(phase_name, step)

    return Monitor()


def run_watched(work: Callable[[], T], state: BuildState, label: str, progress: Progress) -> T:
    """Run ``work`` on a worker thread and return its result, or raise what it raised.

    ``label`` is what the listener is told; TensorRT's own phase names say nothing to a user (code generation
    runs under "Determining refit engines").

    Whatever ``progress.update`` raises (KeyboardInterrupt above all) cancels the build: the worker is
    asked to stop and waited for, since TensorRT's objects must not outlive it, and the exception goes on.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []
    finished = threading.Event()

    def worker() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            failure.append(error)
        finally:
            finished.set()

    progress.update(label, 0.0)
    thread = threading.Thread(target=worker, name="tensorrt-build")
    thread.start()
    try:
        while not finished.wait(POLL_S):
            progress.update(label, state.fraction())
    except BaseException:
        state.cancelled = True
        _join(thread)
        raise
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _join(thread: threading.Thread) -> None:
    """Wait for the worker through further Ctrl-C: leaving it behind would crash at exit."""
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            continue
