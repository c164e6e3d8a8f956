"""Precision + the compute capabilities asked for -> those to build for, or a refusal with the whole table.

The table holds what TensorRT for RTX 1.7.1 was seen to build ahead of time (2026-11-22, no GPU involved);
asking first costs nothing, while the builder answers only after parsing and in its own words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from types import ModuleType

from scconv_deploy.config import Precision
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.nvidia_driver import Gpu

AVAILABLE = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
"""Every compute capability TensorRT for RTX has a name for. Hopper (sm_90) and sm_100 are not among them."""

GPUS = {
    "sm_75": "Turing: RTX 20, T4",
    "sm_80": "Ampere: A100, A30",
    "sm_86": "Ampere: RTX 30, A10, A40",
    "sm_89": "Ada: RTX 40, L4, L40",
    "sm_120": "Blackwell: RTX 50",
    "sm_121": "Blackwell: GB10",
}

TURING = "sm_75"
_NO_INT8_KERNELS = (
    "TensorRT for RTX 1.7.1 takes the graph and then dequantises the codes and convolves in fp16 (17 of 18 products of "
    "the digits sample): use --precision fp16"
)
_NO_FP8_TYPE = "FP8 arithmetic begins with sm_89"
REFUSED: dict[Precision, dict[str, str]] = {
    Precision.FP32: {},
    Precision.FP16: {},
    Precision.BF16: {"sm_75": "Turing has no BF16 arithmetic"},
    Precision.INT8: {TURING: _NO_INT8_KERNELS},
    Precision.FP8: dict.fromkeys(("sm_75", "sm_80", "sm_86"), _NO_FP8_TYPE),
}
"""Combinations that do not build, with the reason; all others do, together in one plan."""

ONLY_NAMED: dict[Precision, tuple[str, ...]] = {Precision.FP32: (TURING,)}
"""Built only where asked for by name: the Linear head is then a convolution, in the plan for every other one too."""


def parse(text: str) -> str:
    """``"sm_89"``, ``"SM89"``, ``"89"`` or ``"8.9"`` -> ``"sm_89"``.

    Raises:
        InputError: this is no compute capability, or TensorRT for RTX cannot build for it.
    """
    name = spelled(text)
    if name in AVAILABLE:
        return name
    if name is not None:
        raise InputError(
            f"TensorRT for RTX cannot build for {name}{_nearest(name)}; on a machine with that GPU use "
            f"--target trt with TensorRT installed\n{table()}"
        )
    raise InputError(
        f"'{text}' is not a compute capability; write it like sm_89, 89 or 8.9{_nearest(text)}\n{table()}"
    )


def spelled(text: str) -> str | None:
    """``"9.0"`` -> ``"sm_90"``; None for what is no compute capability at all (the oldest meant is 5.0)."""
    found = re.fullmatch(r"(?:sm_?)?(\d+)(?:\.(\d))?", text.strip().lower())
    digits = f"{found[1]}{found[2] or ''}" if found else "0"
    return f"sm_{digits}" if int(digits) >= 50 else None


def choose(asked: Sequence[str], precision: Precision, module: ModuleType) -> tuple[str, ...]:
    """The compute capabilities of one plan, ascending; nothing asked means all that the precision allows.

    Args:
        asked: as the user wrote them; each may itself be a comma-separated list.
        precision: of the graph.
        module: the installed ``tensorrt_rtx``.

    Raises:
        InputError: a combination that does not build, with the reason and the table.
        CapabilityError: the installed version does not know a compute capability that was asked for.
    """
    names = {parse(part) for text in asked for part in text.split(",") if part.strip()}
    known = tuple(c for c in AVAILABLE if hasattr(module.ComputeCapability, member(c)))
    refused = REFUSED[precision]
    if not names:
        return tuple(c for c in known if c not in refused and c not in ONLY_NAMED.get(precision, ()))
    for name in sorted(names, key=AVAILABLE.index):
        if name in refused:
            raise InputError(f"{precision.value} cannot be built for {name}: {refused[name]}\n{table()}")
        if name not in known:
            raise CapabilityError(
                f"the installed TensorRT for RTX {module.__version__} does not know {name}; it knows "
                f"{', '.join(known)}. Upgrade it with: pip install -U tensorrt-rtx"
            )
    return tuple(c for c in AVAILABLE if c in names)


def only_here(asked: Sequence[str], gpu: Gpu) -> tuple[str, ...]:
    """The GPU's own compute capability: what TensorRT (not RTX) builds for.

    Raises:
        InputError: another one was asked for.
    """
    for text in (part for item in asked for part in item.split(",") if part.strip()):
        if spelled(text) != gpu.compute_capability:
            raise InputError(
                f"TensorRT builds for the GPU it runs on, here {gpu.name} ({gpu.compute_capability}), "
                f"not for '{text}'; leave out --compute-capability, or use --target trt-rtx"
            )
    return (gpu.compute_capability,)


def member(capability: str) -> str:
    """``"sm_89"`` -> ``"SM89"``, the member of ``ComputeCapability``."""
    return capability.upper().replace("_", "")


def table() -> str:
    """What builds, one line per precision, for refusals and for ``--help``."""
    lines = [
        f"  {precision.value:<5}{' '.join(c for c in AVAILABLE if c not in refused)}"
        for precision, refused in REFUSED.items()
    ]
    return "\n".join(["TensorRT for RTX builds:", *lines])


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, AVAILABLE, n=1, cutoff=0.0)[0]
    if re.fullmatch(r"sm_\d+", name):
        close = min(AVAILABLE, key=lambda c: abs(int(c[3:]) - int(name[3:])))
    return f"; the nearest it builds for is {close} ({GPUS[close]})"
