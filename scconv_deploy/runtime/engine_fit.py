"""A bundle's manifest + this machine's GPU, driver and libraries -> why the engine cannot run here, in words.

Nothing is loaded and no memory of the GPU is used: the driver is asked for its version and the GPU's name. The
rules are TensorRT's: an engine belongs to the version that built it, unless it was built version compatible, and
to the compute capabilities it was built for, unless it was built hardware compatible.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from scconv_deploy.runtime.nvidia_driver import Gpu

CUDA_MAJORS = range(11, 20)
AMPERE = 80


def mismatch(manifest: Mapping[str, Any], gpu: Gpu, module: str, installed: str) -> str | None:
    """The first reason why an engine cannot run here; None where the manifest knows of none.

    Args:
        manifest: of the bundle; what it does not say is not checked.
        gpu: this machine's.
        module: "tensorrt" or "tensorrt_rtx".
        installed: its version here.
    """
    return (
        _wrong_gpu(manifest, gpu)
        or _wrong_version(manifest, module, installed)
        or _old_driver(gpu, module, cuda_major(module))
    )


def cuda_major(module: str) -> int | None:
    """The CUDA version the installed libraries were made for, from the wheel's name; None where it has none."""
    for major in CUDA_MAJORS:
        try:
            version(f"{module}_cu{major}")
        except PackageNotFoundError:
            continue
        return major
    return None


def _wrong_gpu(manifest: Mapping[str, Any], gpu: Gpu) -> str | None:
    built = [str(c) for c in _details(manifest).get("compute_capabilities") or ()]
    if not built or gpu.compute_capability in built:
        return None
    level = str((manifest.get("tensorrt") or {}).get("hardware_compatibility", "none"))
    if level == "ampere+" and _number(gpu.compute_capability) >= AMPERE:
        return None
    return (
        f"it was built for {', '.join(built)} and this machine's {gpu.name} is {gpu.compute_capability}; export "
        f"it again with --compute-capability {gpu.compute_capability} (--target trt-rtx), or on this machine"
    )


def _wrong_version(manifest: Mapping[str, Any], module: str, installed: str) -> str | None:
    built = (manifest.get("tool_versions") or {}).get(module)
    if built is None:
        return None
    was, here = _release(str(built)), _release(installed)
    if was == here:
        return None
    if (manifest.get("tensorrt") or {}).get("version_compatible") and was[:1] == here[:1] and was <= here:
        return None
    return (
        f"it was built by {module} {built} and {installed} is installed, which does not read its engines; "
        f"install that version (pip install {module.replace('_', '-')}=={built}) or export it again"
    )


def _old_driver(gpu: Gpu, module: str, needed: int | None) -> str | None:
    if needed is None or gpu.cuda is None or gpu.cuda[0] >= needed:
        return None
    return (
        f"this machine's NVIDIA driver offers CUDA {gpu.cuda[0]}.{gpu.cuda[1]} and the installed {module} needs "
        f"CUDA {needed}; update the driver, or install {module.replace('_', '-')}-cu{gpu.cuda[0]}"
    )


def _details(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return manifest.get("details") or {}


def _number(capability: str) -> int:
    digits = capability.removeprefix("sm_")
    return int(digits) if digits.isdigit() else 0


def _release(text: str) -> tuple[int, ...]:
    """``"10.13.3.9.post1"`` -> ``(10, 13, 3)``: the fourth number is a build of the same release."""
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
