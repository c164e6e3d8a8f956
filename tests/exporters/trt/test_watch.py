"""Progress on the caller's thread, and cancelling."""

import threading
import time

import pytest

from exporters.trt import watch
from exporters.trt.watch import BuildState, run_watched


class Recorder:
    """A Progress that remembers, and raises ``error`` at its call number ``at``."""

    def __init__(self, error: BaseException | None = None, at: int = 0) -> None:
        self.calls: list[tuple[str, float | None]] = []
        self.threads: set[int] = set()
        self._error, self._at = error, at

    def update(self, message: str, fraction: float | None = None) -> None:
        self.calls.append((message, fraction))
        self.threads.add(threading.get_ident())
        if self._error is not None and len(self.calls) == self._at:
            raise self._error


def test_fractions_follow_the_nested_phases_and_never_fall() -> None:
    state = BuildState()
    assert state.fraction() == 0.0
    state.start("engine", None, 4)
    assert state.step("engine", 0)
    assert state.fraction() == 0.25
    state.start("graph", "engine", 2)
    state.step("graph", 0)
    assert state.fraction() == 0.25 + 0.25 / 2
    state.finish("graph")
    assert state.fraction() == 0.25 + 0.25 / 2, "the parent's step is not reported yet"
    state.step("engine", 1)
    assert state.fraction() == 0.5
    for index in (2, 3, 4):
        state.step("engine", index)
    assert state.fraction() == 1.0
    state.finish("engine")
    assert state.fraction() == 1.0


def test_unknown_and_empty_phases_do_no_harm() -> None:
    state = BuildState()
    assert state.step("never started", 3)
    state.finish("never started")
    state.start("empty", None, 0)
    assert state.fraction() == 0.0


def test_the_result_comes_back_and_the_listener_is_called_on_its_own_thread_only() -> None:
    state, progress = BuildState(), Recorder()
    state.start("engine", None, 2)

    def work() -> int:
        state.step("engine", 0)
        time.sleep(3 * watch.POLL_S)
        return threading.get_ident()

    assert run_watched(work, state, "building", progress) != threading.get_ident()
    assert progress.calls[0] == ("building", 0.0)
    assert progress.calls[-1] == ("building", 0.5)
    assert progress.threads == {threading.get_ident()}


def test_what_the_build_raises_is_raised_here() -> None:
    def work() -> int:
        raise ValueError("from the worker")

    with pytest.raises(ValueError, match="from the worker"):
        run_watched(work, BuildState(), "building", Recorder())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a listener that fails")])
def test_what_the_listener_raises_cancels_the_build_and_waits_for_it(error: BaseException) -> None:
    state = BuildState()
    ended = threading.Event()

    def work() -> None:
        for step in range(1000):
            if not state.step("engine", step):
                ended.set()
                return
            time.sleep(0.01)

    with pytest.raises(type(error)):
        run_watched(work, state, "building", Recorder(error, at=2))
    assert ended.is_set(), "the worker was left behind, or was never asked to stop"


def test_an_interrupt_before_the_start_builds_nothing() -> None:
    started = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        run_watched(started.set, BuildState(), "building", Recorder(KeyboardInterrupt(), at=1))
    assert not started.is_set()
