"""Real worker processes around fake backends: what comes back, and every way they can fail."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import pytest

from scconv_deploy.bench.openers import NotPortableError, Opener
from scconv_deploy.bench.workers import ProcessWorker, WorkerDiedError
from scconv_deploy.errors import CapabilityError
from tests.bench_unit.fakes import Script, Unpicklable


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones((2, 3), np.float32))
    return path


def test_a_worker_measures_in_a_process_of_its_own(inputs: Path) -> None:
    with ProcessWorker("fake", Script(chatter=True), 1, inputs) as worker:
        opening = worker.open()
        assert opening.load_ms >= 0
        assert opening.overhead_us > 0
        warm = worker.warm_up(1)
        assert warm.calls >= 6
        durations = worker.burst(7, lead_in=True)
        assert durations.shape == (7,)
        assert durations.min() > 0
        memory = worker.memory()
        assert memory is not None
        assert memory.base_bytes > 0
        assert worker.device_times() is None
        process = psutil.Process(worker.pid)
        assert process.is_running()
        assert worker.pid != psutil.Process().pid
    assert not process.is_running()


def test_a_worker_that_dies_is_one_sentence(inputs: Path) -> None:
    with ProcessWorker(
        "our bundle", Script(die_at=3, say="allocating 90 GB\nKilled it\n"), 1, inputs
    ) as worker:
        worker.open()
        with pytest.raises(WorkerDiedError) as caught:
            worker.burst(10, lead_in=False)
    assert str(caught.value) == (
        "the process of our bundle died while being timed (SIGKILL; the machine may have run out of memory); "
        "its last words: Killed it"
    )


def test_a_worker_that_dies_while_opening_says_so(inputs: Path) -> None:
    with (
        ProcessWorker("a", Script(die_at=0), 1, inputs) as worker,
        pytest.raises(WorkerDiedError, match=r"died while opening \(SIGKILL"),
    ):
        worker.open()


def test_a_refusal_keeps_its_type_and_sentence(inputs: Path) -> None:
    with ProcessWorker("a", Script(refuse=True), 1, inputs) as worker:
        with pytest.raises(CapabilityError, match=r"^this fake has no device here$"):
            worker.open()
        # It lives on: a refusal is no death.
        with pytest.raises(CapabilityError, match="RuntimeError: a session is opened before it is used"):
            worker.warm_up(1)


def test_missing_inputs_are_an_error_with_their_type(tmp_path: Path) -> None:
    with (
        ProcessWorker("a", Script(), 1, tmp_path / "none.npz") as worker,
        pytest.raises(CapabilityError, match="FileNotFoundError"),
    ):
        worker.open()


def test_what_cannot_be_rebuilt_there_is_not_portable(inputs: Path) -> None:
    with (
        ProcessWorker("a", cast(Opener, Unpicklable()), 1, inputs) as worker,
        pytest.raises(NotPortableError, match="of_process_"),
    ):
        worker.open()


def test_nothing_is_left_running_after_an_error(inputs: Path) -> None:
    began = time.monotonic()
    worker = ProcessWorker("a", Script(), 1, inputs)
    with contextlib.suppress(KeyboardInterrupt), worker:
        pid = worker.pid
        raise KeyboardInterrupt
    assert not psutil.pid_exists(pid)
    assert time.monotonic() - began < 60


def test_the_current_folder_is_not_searched_for_modules(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "psutil.py").write_text("raise SystemExit('a stranger ran')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with ProcessWorker("a", Script(), 1, inputs) as worker:
        assert worker.open().load_ms >= 0
