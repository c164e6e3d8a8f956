"""This machine -> findings: libraries, CPU, GPU and targets. Never crashes because something is absent.

Versions come from package metadata, so neither torch nor a builder is imported; the GPU is asked through the
driver's own library. What an extra installs is read from this package's metadata, the only list of it.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from scconv_deploy import registry
from scconv_deploy.kernels import loader
from scconv_deploy.report.doctor import Finding

DISTRIBUTION = "scconv-deploy"
BASE = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy")
OPTIONAL = (
    ("tensorrt", "TensorRT engines, with a GPU"),
    ("tensorrt-rtx", "TensorRT-RTX engines, without a GPU too"),
    ("openvino", "OpenVINO"),
)
CPU_FEATURES = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "i8mm",
)
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


def findings() -> tuple[Finding, ...]:
    """Everything this machine has or lacks, grouped, in the order to read it."""
    return (*_machine(), *_libraries(), *_gpu(), *_targets())


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def install_line(distribution: str) -> str:
    """The pip line for a distribution, naming the extra that holds it where there is one."""
    for requirement in _requirements():
        match = re.match(
            rf"{re.escape(distribution)}(?![\w.-])([^;]*);.*extra == ['\"]([\w-]+)['\"]", requirement
        )
        if match:
            return f'pip install "{DISTRIBUTION}[{match[2]}]"'
    return f"pip install {distribution}"


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _machine() -> Iterator[Finding]:
    yield Finding(
        "machine", "Python", None, f"{platform.python_version()} ({platform.python_implementation()})"
    )
    yield Finding("machine", "system", None, f"{platform.system()} {platform.release()} {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(
        "machine", "CPU", None, f"{cores} cores; {', '.join(_cpu_features()) or 'features unknown'}"
    )
    memory = psutil.virtual_memory()
    yield Finding(
        "machine", "memory", None, f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB"
    )


def _cpu_features() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    present = set(line[1].split()) if line else set()
    return [name for name in CPU_FEATURES if name in present]


def _libraries() -> Iterator[Finding]:
    own = installed(DISTRIBUTION)
    yield Finding(
        "libraries", DISTRIBUTION, own is not None, own or "imported, not installed", _unless(own, "-e .")
    )
    for name in BASE:
        version = installed(name)
        yield Finding(
            "libraries", name, version is not None, version or "not installed", _unless(version, name)
        )
        if name == "onnxruntime" and version is not None:
            yield Finding("libraries", "  providers", None, _providers())
    yield _kernels()
    for name, purpose in OPTIONAL:
        version = installed(name)
        line = None if version else install_line(name)
        yield Finding("optional", name, version is not None, version or f"not installed ({purpose})", line)


def _kernels() -> Finding:
    """The fused kernels that ``--form plugin`` runs on in ONNX Runtime."""
    built = loader.instruction_set()
    if built is None:
        there = "cannot be loaded here" if loader.library() else "not built"
        detail = f"{there}; --form plugin runs on standard operators"
        return Finding("libraries", "fused kernels", False, detail, loader.REBUILD)
    return Finding("libraries", "fused kernels", True, f"for ONNX Runtime; the {built} build runs here")


def _unless(version: str | None, requirement: str) -> str | None:
    return None if version else f"pip install {requirement}"


def _providers() -> str:
    try:
        return ", ".join(importlib.import_module("onnxruntime").get_available_providers())
    except Exception as error:  # noqa: BLE001 - a broken install is a finding, not a crash
        return f"cannot be imported: {error}"


def _gpu() -> Iterator[Finding]:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        detail = "no NVIDIA driver: engines are built ahead of time and not executed"
        yield Finding("GPU", "NVIDIA driver", False, detail)
        return
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    status = driver.cuInit(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    yield Finding("GPU", "NVIDIA driver", True, f"supports CUDA {major}.{minor}")
    if status != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        yield Finding("GPU", "device", False, f"none usable (cuInit answered {status})")
        return
    for index in range(count.value):
        yield Finding("GPU", f"device {index}", True, _device(driver, index))


def _device(driver: ctypes.CDLL, index: int) -> str:
    name = ctypes.create_string_buffer(100)
    device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device)
    return f"{name.value.decode(errors='replace')}, sm_{major.value}{minor.value}"


def _targets() -> Iterator[Finding]:
    names = registry.targets()
    if not names:
        yield Finding("targets", "(none)", False, "no targets are registered", "pip install -e .")
    for name in names:
        yield _target(name)


def _target(name: str) -> Finding:
    try:
        made = registry.exporter(name)
        versions = ", ".join(f"{tool} {version}" for tool, version in made.versions().items())
    except Exception as error:  # noqa: BLE001 - one broken exporter must not hide the others
        return Finding("targets", name, False, str(error) or type(error).__name__)
    detail = (
        f"{made.summary} ({versions})" if versions else f"{made.summary} (its libraries are not installed)"
    )
    return Finding("targets", name, bool(versions), detail)
