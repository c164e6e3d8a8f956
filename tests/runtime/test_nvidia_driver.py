"""The driver's answers, with a stand-in for its library that answers through the same pointers."""

import ctypes
import sys
from typing import Any

import pytest

from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu, probe


class _Driver:
    """libcuda's six functions; ``failing`` answers an error code instead."""

    def __init__(self, count: int = 1, failing: str | None = None) -> None:
        self._count, self._failing = count, failing

    def _status(self, name: str) -> int:
        return 100 if name == self._failing else 0

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
        return self._status("cuInit")

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._count
        return self._status("cuDeviceGetCount")

    def cuDeviceGetName(self, name: Any, size: int, device: int) -> int:  # noqa: N802
        name.value = b"NVIDIA L4"
        return self._status("cuDeviceGetName")

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 9}[attribute]
        return self._status("cuDeviceGetAttribute")

    def cuDriverGetVersion(self, found: Any) -> int:  # noqa: N802
        found._obj.value = 13010
        return self._status("cuDriverGetVersion")


def _with(monkeypatch: pytest.MonkeyPatch, driver: _Driver) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)


def test_a_gpu_is_named_with_its_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, _Driver())
    assert probe() == Gpu("NVIDIA L4", "sm_89", (13, 1))


def test_a_driver_that_does_not_say_its_version_is_still_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, _Driver(failing="cuDriverGetVersion"))
    assert probe() == Gpu("NVIDIA L4", "sm_89", None)


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (_Driver(failing="cuInit"), "cuInit answers error 100"),
        (_Driver(count=0), "sees no device"),
        (_Driver(failing="cuDeviceGetCount"), "sees no device"),
        (_Driver(failing="cuDeviceGetName"), "does not describe device 0"),
        (_Driver(failing="cuDeviceGetAttribute"), "does not describe device 0"),
    ],
)
def test_every_failure_of_the_driver_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, driver: _Driver, words: str
) -> None:
    _with(monkeypatch, driver)
    answer = probe()
    assert isinstance(answer, NoGpu)
    assert words in answer.reason


@pytest.mark.parametrize(("system", "library"), [("linux", "libcuda.so.1"), ("win32", "nvcuda.dll")])
def test_no_driver_is_a_reason_with_the_library_that_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, system: str, library: str
) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setattr(sys, "platform", system)
    assert probe() == NoGpu(f"no NVIDIA GPU on this machine (its driver library {library} is not there)")
