"""Interrupts and killed owners: the process of a build ends, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exporters.trt.platform import Platform
from exporters.trt.process import HOME, BuildProcess, building
from exporters.trt.settings import BuildRequest
from tests.exporters.trt.fake_tensorrt import alive
from tests.exporters.trt.models import conv_chain, rtx_platform
from tests.exporters.trt.test_watch import Recorder

ADA = ("sm_89",)


def test_an_interrupt_kills_a_process_that_hangs(
    fake: Platform, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "hangs")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), building(fake, folder) as process:
        process.plan(b"", BuildRequest(()), Recorder(KeyboardInterrupt(), at=5))
    assert time.monotonic() - started < 8
    assert not alive(process.pid)


def test_an_interrupt_cancels_a_real_build_before_its_grace_is_over(folder: Path) -> None:
    data = conv_chain(60).SerializeToString()
    request = BuildRequest((), ADA)
    killed: list[int] = []
    process: BuildProcess | None = None

    def build() -> None:
        nonlocal process
        with building(rtx_platform(), folder) as process:
            process._process.kill = lambda: killed.append(1)  # type: ignore[method-assign]
            process.plan(data, request, _UntilBuilding())

    with pytest.raises(KeyboardInterrupt):
        build()
    assert process is not None
    assert killed == [], "the build did not stop when it was asked to"
    assert not alive(process.pid)


class _UntilBuilding:
    """Interrupts at the first step of the build itself."""

    def update(self, message: str, fraction: float | None = None) -> None:
        if message.startswith("building"):
            raise KeyboardInterrupt


OWNER = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from exporters.trt.platform import Platform
from exporters.trt.process import building
from exporters.trt.settings import BuildRequest
from scconv_deploy.runtime.nvidia_driver import NoGpu

class Tell:
    told = False
    def update(self, message, fraction=None):
        if message.startswith("building") and not self.told:
            self.told = True
            print(process.pid, flush=True)

platform = Platform(SimpleNamespace(__name__="tensorrt", __version__="10"), NoGpu(""), "")
with building(platform, Path(sys.argv[1])) as process:
    process.plan(b"", BuildRequest(()), Tell())
"""


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_its_owner(fake: Platform, tmp_path: Path, blow: signal.Signals) -> None:
    """Ctrl-C at the owner alone, and an owner that is killed outright: the child ends either way."""
    home = tmp_path / "workspace"
    home.mkdir()
    path = os.pathsep.join([str(tmp_path / "fake"), HOME])
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "FAKE_TENSORRT": "hangs"},
        text=True,
    )
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    assert alive(child)
    owner.send_signal(blow)
    owner.wait(10)
    owner.stdout.close()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)
    if blow is signal.SIGINT:
        assert list(home.iterdir()) == []


def test_a_second_interrupt_while_the_process_ends_is_no_way_to_leave_it_behind(
    fake: Platform, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TENSORRT", "hangs")
    process = BuildProcess(fake, folder)
    wait = process._process.wait
    interrupted: list[int] = []

    def impatient(timeout: float | None = None) -> int:
        if not interrupted:
            interrupted.append(1)
            raise KeyboardInterrupt
        return wait(timeout)

    monkeypatch.setattr(process._process, "wait", impatient)
    process.close(cancel=True)
    assert interrupted
    assert not alive(process.pid)
