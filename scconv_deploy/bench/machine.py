"""This machine and the installed versions -> the facts that make two measurements comparable, or not."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from scconv_deploy.measurements import Machine
from scconv_deploy.runtime.nvidia_driver import Gpu, probe

CPUINFO = Path("/proc/cpuinfo")
FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
    *("asimd", "fphp", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Instruction sets that decide how fast convolutions run, as the kernel names them (x86, then ARM)."""

PACKAGES = (
    *("scconv-deploy", "torch", "onnx", "onnxscript", "onnx-ir", "onnxsim", "onnxruntime", "numpy"),
    *("tensorrt", "tensorrt-rtx", "openvino", "nncf"),
)


def this_machine() -> Machine:
    """What the fingerprint covers: processor, its features, cores, memory, system and GPU; no versions."""
    cpu, features = processor(CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else "")
    gpu = probe()
    return identified(
        cpu=cpu,
        features=features,
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        gpu=f"{gpu.name} ({gpu.compute_capability})" if isinstance(gpu, Gpu) else None,
    )


def identified(
    *, cpu: str, features: tuple[str, ...], cores: int, memory_gib: float, system: str, gpu: str | None
) -> Machine:
    """The facts with their fingerprint. Memory counts in whole GiB: kernels report a little more or less."""
    parts = (cpu, " ".join(features), str(cores), str(round(memory_gib)), system, gpu or "")
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return Machine(digest, cpu, features, cores, memory_gib, system, gpu)


def processor(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """The text of ``/proc/cpuinfo`` -> model name and the features that matter."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name") or platform.processor() or "unknown"
    return name, tuple(f for f in FEATURES if f in flags)


def versions() -> Mapping[str, str | None]:
    """Python and what computes or exports; None where it is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
