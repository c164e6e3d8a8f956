"""Events between copies and compute, and the graph: the order of every call, and times by hand.

What stand-ins cannot prove is that a GPU agrees; the module says so too.
"""

from __future__ import annotations

import ctypes
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.device_timing import REPEATS, WARM_UP, ClockWatch, Copy, Device, timed_pass

COPIES = {"to": 0.25, "back": 0.125}
COMPUTE_MS, GRAPH_MS = 2.0, 1.5


class Recorder:
    """A GPU whose clock moves by copies, launches and replays alone."""

    def __init__(self, fails: str | None = None, starts: bool = True) -> None:
        self.now, self.fails, self.starts = 0.0, fails, starts
        self.calls: list[str] = []
        self.alive: set[str] = set()
        self.made = 0
        self.times: dict[str, float] = {}
        self.capturing = False

    def launch(self) -> bool:
        self.calls.append("launch")
        if not self.capturing:
            self.now += COMPUTE_MS
        return self.starts

    def call(self, name: str, *arguments: Any) -> Any:
        self.calls.append(name)
        if name == self.fails:
            raise CapabilityError(f"CUDA reports an error in {name}")
        return getattr(self, name, lambda *_: None)(*arguments)

    def _new(self, kind: str) -> str:
        self.made += 1
        self.alive.add(f"{kind}{self.made}")
        return f"{kind}{self.made}"

    def cudaEventCreate(self) -> str:  # noqa: N802
        return self._new("event")

    def cudaEventRecord(self, event: str, stream: object) -> None:  # noqa: N802
        self.times[event] = self.now

    def cudaEventElapsedTime(self, first: str, second: str) -> float:  # noqa: N802
        assert self.calls[-2] in ("cudaStreamSynchronize", "cudaEventElapsedTime"), (
            "the stream is not at its end"
        )
        return self.times[second] - self.times[first]

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: str, stream: object) -> None:  # noqa: N802
        self.now += COPIES[kind]

    def cudaStreamBeginCapture(self, stream: object, mode: object) -> None:  # noqa: N802
        self.capturing = True

    def cudaStreamEndCapture(self, stream: object) -> str:  # noqa: N802
        self.capturing = False
        return self._new("graph")

    def cudaGraphInstantiate(self, graph: str, flags: int) -> str:  # noqa: N802
        return self._new("executable")

    def cudaGraphLaunch(self, executable: str, stream: object) -> None:  # noqa: N802
        self.now += GRAPH_MS

    def _gone(self, thing: str) -> None:
        self.alive.remove(thing)

    cudaEventDestroy = cudaGraphDestroy = cudaGraphExecDestroy = _gone  # noqa: N815

    def times_of(self) -> Any:
        mode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        cuda = cast(ModuleType, SimpleNamespace(cudaStreamCaptureMode=mode))
        device = Device(self.call, cuda, 77, self.launch)
        return timed_pass(device, [Copy(1, 2, 3, "to")] * 2, [Copy(2, 1, 3, "back")])


def test_transfers_compute_and_graph_are_told_apart() -> None:
    gpu = Recorder()
    found = gpu.times_of()
    assert (found.to_device_ms, found.device_ms, found.from_device_ms) == (0.5, COMPUTE_MS, 0.125)
    assert found.device_percentiles_ms == dict.fromkeys(("50", "90", "95", "99"), COMPUTE_MS)
    assert (found.graph_ms, found.graph_refusal) == (GRAPH_MS, None)
    assert gpu.alive == set(), "events or graphs were left behind"
    assert gpu.calls.count("launch") == WARM_UP + REPEATS + 1
    first = gpu.calls[4 : gpu.calls.index("cudaEventElapsedTime")]
    assert first == [
        *("cudaEventRecord", "cudaMemcpyAsync", "cudaMemcpyAsync", "cudaEventRecord", "launch"),
        *("cudaEventRecord", "cudaMemcpyAsync", "cudaEventRecord", "cudaStreamSynchronize"),
    ]


@pytest.mark.parametrize("fails", ["cudaStreamBeginCapture", "cudaGraphInstantiate"])
def test_an_engine_that_cannot_be_captured_says_why(fails: str) -> None:
    gpu = Recorder(fails=fails)
    found = gpu.times_of()
    assert (found.graph_ms, found.graph_refusal) == (None, f"CUDA reports an error in {fails}")
    assert found.device_ms == COMPUTE_MS
    assert gpu.alive == set()
    assert not gpu.capturing or fails == "cudaStreamBeginCapture"


def test_an_engine_that_does_not_start_is_an_error_and_leaves_nothing() -> None:
    gpu = Recorder(starts=False)
    with pytest.raises(CapabilityError, match="could not be started"):
        gpu.times_of()
    assert gpu.alive == set()


def test_without_nvml_there_are_no_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    watch = ClockWatch()
    watch.look()
    assert (watch.span(watch.sm), watch.reasons) == (None, 0)


def test_clocks_and_reasons_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = iter([1980, 2619, 1200, 2619])
    reasons = iter([0x1, 0x4])

    def fill(target: Any, value: int) -> int:
        target._obj.value = value
        return 0

    library = SimpleNamespace(
        nvmlInit_v2=lambda: 0,
        nvmlDeviceGetHandleByIndex_v2=lambda index, handle: 0,
        nvmlDeviceGetClockInfo=lambda handle, kind, out: fill(out, next(clocks)),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle, out: fill(out, next(reasons)),
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    watch = ClockWatch()
    watch.look()
    watch.look()
    assert (watch.span(watch.sm), watch.span(watch.memory)) == ((1200, 1980), (2619, 2619))
    assert watch.reasons == 0x5
