"""A loaded engine with its device buffers -> device time by CUDA events, apart from its transfers.

What host timing hides: how much of a call is copying, and how much is launching (a CUDA graph replays the same
kernels with one launch). Unproved on a GPU as of 2026-11-22, like the runner; what is proved is the order of
the calls, against recording stand-ins.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from scconv_deploy.errors import CapabilityError
from scconv_deploy.measurements import GpuTimes

WARM_UP, REPEATS = 20, 200
PERCENTILES = (50, 90, 95, 99)

THROTTLE = {
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of nvmlDeviceGetCurrentClocksThrottleReasons (NVML API reference); idle (0x1) is no reason here."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One transfer: where to, where from, bytes, and which way (a cudaMemcpyKind)."""

    to: int
    source: int
    size: int
    kind: Any


@dataclass(frozen=True, slots=True)
class Device:
    """What a timed pass needs: the runner's checked CUDA call, the module, its stream, and the launch."""

    call: Callable[..., Any]
    cuda: ModuleType
    stream: Any
    launch: Callable[[], bool]


def timed_pass(device: Device, sends: Sequence[Copy], fetches: Sequence[Copy]) -> GpuTimes:
    """Repeat copy in, compute, copy out with an event between each; then the compute alone as a CUDA graph.

    Raises:
        CapabilityError: the GPU reports an error, or the engine does not start.
    """
    watch = ClockWatch()
    for _ in range(WARM_UP):
        _once(device, sends, fetches)
    rows = []
    for repeat in range(REPEATS):
        rows.append(_once(device, sends, fetches))
        if repeat % 20 == 0:
            watch.look()
    to_device, compute, from_device = np.array(rows).T
    graph_ms, refusal = _graph(device)
    watch.look()
    return GpuTimes(
        device_ms=float(np.median(compute)),
        device_percentiles_ms={str(p): float(np.percentile(compute, p)) for p in PERCENTILES},
        to_device_ms=float(np.median(to_device)),
        from_device_ms=float(np.median(from_device)),
        graph_ms=graph_ms,
        graph_refusal=refusal,
        sm_clock_mhz=watch.span(watch.sm),
        memory_clock_mhz=watch.span(watch.memory),
        throttle=tuple(words for bit, words in THROTTLE.items() if watch.reasons & bit),
    )


def _once(device: Device, sends: Sequence[Copy], fetches: Sequence[Copy]) -> tuple[float, float, float]:
    with contextlib.ExitStack() as stack:
        marks = [_event(device, stack) for _ in range(4)]
        _record(device, marks[0])
        _copy(device, sends)
        _record(device, marks[1])
        _launch(device)
        _record(device, marks[2])
        _copy(device, fetches)
        _record(device, marks[3])
        device.call("cudaStreamSynchronize", device.stream)
        first, second, third = (
            float(device.call("cudaEventElapsedTime", a, b)) for a, b in itertools.pairwise(marks)
        )
    return first, second, third


def _graph(device: Device) -> tuple[float | None, str | None]:
    """Median of replaying the launch as a graph, or why it cannot be captured."""
    with contextlib.ExitStack() as stack:
        try:
            mode = device.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            device.call("cudaStreamBeginCapture", device.stream, mode)
            try:
                _launch(device)
            finally:
                # A capture that is not ended leaves the stream unusable.
                graph = device.call("cudaStreamEndCapture", device.stream)
            stack.callback(device.call, "cudaGraphDestroy", graph)
            executable = device.call("cudaGraphInstantiate", graph, 0)
            stack.callback(device.call, "cudaGraphExecDestroy", executable)
        except CapabilityError as error:
            return None, str(error)
        times = []
        begin, end = _event(device, stack), _event(device, stack)
        for _ in range(WARM_UP + REPEATS):
            _record(device, begin)
            device.call("cudaGraphLaunch", executable, device.stream)
            _record(device, end)
            device.call("cudaStreamSynchronize", device.stream)
            times.append(float(device.call("cudaEventElapsedTime", begin, end)))
        return float(np.median(times[WARM_UP:])), None


def _event(device: Device, stack: contextlib.ExitStack) -> Any:
    event = device.call("cudaEventCreate")
    stack.callback(device.call, "cudaEventDestroy", event)
    return event


def _record(device: Device, event: Any) -> None:
    device.call("cudaEventRecord", event, device.stream)


def _copy(device: Device, copies: Sequence[Copy]) -> None:
    for copy in copies:
        device.call("cudaMemcpyAsync", copy.to, copy.source, copy.size, copy.kind, device.stream)


def _launch(device: Device) -> None:
    if not device.launch():
        raise CapabilityError("the engine could not be started; its log has the reason")


class ClockWatch:
    """Clocks and throttle reasons of GPU 0 through NVML; everything stays empty where NVML is not there."""

    def __init__(self) -> None:
        self.sm: list[int] = []
        self.memory: list[int] = []
        self.reasons = 0
        self._library: Any = None
        name = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(name)
            self._handle = ctypes.c_void_p()
            if not library.nvmlInit_v2() and not library.nvmlDeviceGetHandleByIndex_v2(
                0, ctypes.byref(self._handle)
            ):
                self._library = library

    def look(self) -> None:
        """Note the clocks and reasons of this moment."""
        if self._library is None:
            return
        for kind, seen in ((1, self.sm), (2, self.memory)):  # NVML_CLOCK_SM, NVML_CLOCK_MEM
            mhz = ctypes.c_uint()
            if not self._library.nvmlDeviceGetClockInfo(self._handle, kind, ctypes.byref(mhz)):
                seen.append(mhz.value)
        reasons = ctypes.c_ulonglong()
        if not self._library.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle, ctypes.byref(reasons)):
            self.reasons |= reasons.value

    @staticmethod
    def span(seen: Sequence[int]) -> tuple[int, int] | None:
        """Lowest and highest, None where nothing was seen."""
        return (min(seen), max(seen)) if seen else None
