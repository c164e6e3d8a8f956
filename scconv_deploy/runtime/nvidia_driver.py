"""The NVIDIA driver of this machine -> the GPU it offers, or the reason in words why there is none.

Asks the driver library itself through ctypes, so neither torch nor a CUDA package is needed, and nothing
is loaded on a machine without a driver. Source: CUDA driver API, ``cuInit``, ``cuDeviceGetCount``,
``cuDeviceGetName``, ``cuDriverGetVersion`` and ``cuDeviceGetAttribute``.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
_MINOR = 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU: its marketing name, its compute capability as ``"sm_89"``, and the newest CUDA its driver
    runs as ``(13, 0)`` (None where it does not say)."""

    name: str
    compute_capability: str
    cuda: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class NoGpu:
    """``reason`` completes the sentence "not executed: ..."."""

    reason: str


def probe() -> Gpu | NoGpu:
    """Ask the driver for device 0. Never raises; a driver that fails counts as no GPU."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return NoGpu(f"no NVIDIA GPU on this machine (its driver library {library} is not there)")
    status = driver.cuInit(0)
    if status:
        return NoGpu(f"no usable NVIDIA GPU on this machine (the driver's cuInit answers error {status})")
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return NoGpu("no NVIDIA GPU on this machine (the driver is there and sees no device)")
    name = ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if (
        driver.cuDeviceGetName(name, 256, 0)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, 0)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, 0)
    ):
        return NoGpu("no usable NVIDIA GPU on this machine (the driver does not describe device 0)")
    capability = f"sm_{major.value}{minor.value}"
    return Gpu(name.value.decode(errors="replace"), capability, _cuda_version(driver))


def _cuda_version(driver: ctypes.CDLL) -> tuple[int, int] | None:
    """The driver writes 13.1 as 13010."""
    found = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(found)) or not found.value:
        return None
    return found.value // 1000, found.value % 1000 // 10
