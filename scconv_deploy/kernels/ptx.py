"""A kernel's name, element type and memory layout -> CUDA source -> PTX, with NVRTC and without a GPU.

The text is the same for the same kernel on every machine with the same NVRTC. It is compiled for
``compute_80``: drivers translate PTX for any later GPU. NVRTC writes the newest version of the PTX language,
which older drivers refuse, though our kernels use nothing newer than 7.0 (bfloat16 conversions); so the
version line is lowered to :data:`LANGUAGE`, which ``ptxas`` confirms in ``tests/kernels/test_ptx.py``.
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from scconv_deploy.errors import BuildError, CapabilityError, InputError

FOLDER = Path(__file__).parent / "cuda"
CAPABILITY = "compute_80"
LANGUAGE = "7.0"
INSTALL = 'pip install "scconv-deploy[trt-plugin]"'
TYPES = {"fp32": "float", "fp16": "scconv::Half", "bf16": "scconv::Brain"}
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
GATES = {"hard": "kHard", "soft": "kSoft", "complement_soft": "kComplementSoft", "static": "kStatic"}
SRU_FLAGS = ("std", "ge", "normalised", "within")
MIX_FLAGS = ("affine", "add", "relu")
POOL = "CRUPool"
WHOLE = "Whole"
"""Behind ``SRU``, ``CRUPool`` or ``CRUMix``: the two halves are one tensor, as SRU's result or the fuse's input."""


class Layout(StrEnum):
    """PLANAR: (N, C, H, W). LAST: (N, H, W, C), channels last, as TensorRT's convolutions like it."""

    PLANAR = "planar"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One kernel. ``operator``: ``SRU_*`` as in ``scconv/fused_ops.py``, ``CRUPool``, or ``CRUMix_*``; each also
    as ``SRUWhole_*``, ``CRUPoolWhole``, ``CRUMixWhole_*``.

    ``dtype``: "fp32", "fp16" or "bf16", of the activations; constants and sums are float32. ``each``: channels
    that a thread moves at once (channels last only; planar kernels find their alignment when they run).
    """

    operator: str
    dtype: str
    layout: Layout = Layout.PLANAR
    each: int = 1

    @property
    def entry(self) -> str:
        """Name of the ``__global__`` function."""
        suffix = f"_{self.each}" if self.layout is Layout.LAST else ""
        return f"scconv_{self.operator}_{self.dtype}_{self.layout.value}{suffix}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads, in the order of its arguments."""
        parts = self.operator.split("_")
        if parts[0] in ("SRU", "SRUWhole"):
            return (
                "x",
                "scale",
                "shift",
                *["weight"] * ("normalised" in parts),
                *["mask"] * ("static" in parts),
            )
        pieces = ("y",) if self.is_whole else ("y1", "y2")
        if parts[0] in (POOL, POOL + WHOLE):
            return pieces
        return (*pieces, "parts", *["scale", "shift"] * ("affine" in parts), *["added"] * ("add" in parts))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors it writes."""
        if self.operator.startswith(POOL):
            return ("parts",)
        if self.operator.startswith("SRU"):
            return ("y",) if self.is_whole else ("y_a", "y_b")
        return ("out",)

    @property
    def is_whole(self) -> bool:
        """Whether the two halves are one tensor."""
        return self.operator.partition("_")[0].endswith(WHOLE)

    @property
    def extras(self) -> tuple[str, ...]:
        """Names of the 32-bit integers between inputs and outputs; ``*_bits`` hold a float32."""
        if self.operator.startswith("SRU"):
            width = ("width",) * (self.layout is Layout.LAST)
            return ("channels", "plane", "groups", *width, "epsilon_bits", "logit_bits")
        if self.operator.startswith(POOL):
            return (*["batch"] * (self.layout is Layout.PLANAR), "channels", "plane")
        return ("channels", "plane", "width" if self.layout is Layout.PLANAR else "positions")


@dataclass(frozen=True, slots=True)
class Ptx:
    """Compiled text; ``entry`` is its only entry point. ``compiler`` is "NVRTC 13.5" or the like."""

    text: str
    entry: str
    compiler: str


def source(spec: KernelSpec) -> str:
    """The translation unit: which header, which form, and one entry point.

    Raises:
        InputError: no kernel has this name, type or width.
    """
    if spec.dtype not in TYPES or spec.each not in (1, 2, 4, 8) or spec.each * BYTES[spec.dtype] > 16:
        raise InputError(
            f"there is no kernel {spec.operator} for {spec.dtype} values, {spec.each} at once; types are "
            f"{', '.join(TYPES)}, and at most 16 bytes are moved at once"
        )
    body = _sru(spec) if spec.operator.startswith("SRU") else _fuse(spec)
    activations = TYPES[spec.dtype]
    floats = {"scale", "shift", "weight", "mask", "parts"}
    arguments = [f"const {'float' if n in floats else activations}* __restrict__ {n}" for n in spec.inputs]
    arguments += [f"int {n}" for n in spec.extras]
    arguments += [f"{'float' if n in floats else activations}* __restrict__ {n}" for n in spec.outputs]
    header, threads, call = body
    return (
        f'#include "{header}"\n\n'
        f'extern "C" __global__ void __launch_bounds__(scconv::{threads}, 1) {spec.entry}(\n    '
        + ",\n    ".join(arguments)
        + f") {{\n  {call}\n}}\n"
    )


@functools.lru_cache(maxsize=256)
def compile_ptx(spec: KernelSpec, capability: str = CAPABILITY) -> Ptx:
    """Compile one kernel.

    Raises:
        InputError: as :func:`source`.
        CapabilityError: NVRTC or its bindings are not installed.
        BuildError: NVRTC refused the source, with the first line of its log.
    """
    return compile_source(source(spec), spec.entry, capability)


def compile_source(text: str, entry: str, capability: str = CAPABILITY) -> Ptx:
    """Compile ``text``, which may include the headers of ``kernels/cuda``; ``entry`` names it in errors."""
    nvrtc = _nvrtc()
    _, major, minor = nvrtc.nvrtcVersion()
    headers = sorted(FOLDER.glob("*.cuh"))
    made = nvrtc.nvrtcCreateProgram(
        text.encode(),
        f"{entry}.cu".encode(),
        len(headers),
        [h.read_bytes() for h in headers],
        [h.name.encode() for h in headers],
    )
    program = _taken(made, f"create a program for {entry}")
    try:
        options = [f"--gpu-architecture={capability}".encode(), b"--std=c++17", b"--restrict"]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if int(status) != 0:
            log = bytearray(_taken(nvrtc.nvrtcGetProgramLogSize(program), "read its log's size"))
            nvrtc.nvrtcGetProgramLog(program, log)
            raise BuildError(
                f"NVRTC {major}.{minor} cannot compile the kernel {entry} for {capability}: {_first_error(log)}"
            )
        code = bytearray(_taken(nvrtc.nvrtcGetPTXSize(program), "read the size of the PTX"))
        nvrtc.nvrtcGetPTX(program, code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    ptx = re.sub(r"(?m)^\.version .*$", f".version {LANGUAGE}", code.rstrip(b"\0").decode(), count=1)
    return Ptx(ptx, entry, f"NVRTC {major}.{minor}")


def _sru(spec: KernelSpec) -> tuple[str, str, str]:
    form = spec.operator.partition("_")[2]
    gate = next((g for g in GATES if form == g or form.startswith(f"{g}_")), None)
    flags = _flags(spec, form.removeprefix(gate or "").removeprefix("_"), SRU_FLAGS)
    if (
        gate is None
        or spec.operator.partition("_")[0] not in ("SRU", "SRUWhole")
        or (gate == "static" and "ge" in flags)
    ):
        raise _unknown(spec)
    kind = f"scconv::SruForm<scconv::{GATES[gate]}, " + ", ".join(_bool(f in flags) for f in SRU_FLAGS) + ">"
    constants = ", ".join(
        ["scale", "shift"]
        + [name if name in spec.inputs else "nullptr" for name in ("weight", "mask")]
        + ["__int_as_float(epsilon_bits)", "__int_as_float(logit_bits)"]
    )
    sizes = "channels, plane, groups"
    whole, made = _bool(spec.is_whole), "y, y" if spec.is_whole else "y_a, y_b"
    if spec.layout is Layout.PLANAR:
        call = f"scconv::sru_planar<{kind}, {whole}>(x, {{{constants}}}, {sizes}, {made});"
        return "sru_planar.cuh", "kSruThreads", call
    call = f"scconv::sru_last<{kind}, {whole}, {spec.each}>(x, {{{constants}}}, {sizes}, width, {made});"
    return "sru_last.cuh", "kSruThreads", call


def _fuse(spec: KernelSpec) -> tuple[str, str, str]:
    last = spec.layout is Layout.LAST
    whole, pieces = _bool(spec.is_whole), "y, y" if spec.is_whole else "y1, y2"
    if spec.operator in (POOL, POOL + WHOLE):
        call = f"scconv::pool_planar<{whole}>({pieces}, batch, channels, plane, parts);"
        if last:
            call = f"scconv::pool_last<{whole}, {spec.each}>({pieces}, channels, plane, parts);"
        return "pool.cuh", "kPoolThreads", call
    name, _, form = spec.operator.partition("_")
    kind, _, rest = form.partition("_")
    if name not in ("CRUMix", "CRUMixWhole") or kind not in ("joint", "pair"):
        raise _unknown(spec)
    flags = _flags(spec, rest, MIX_FLAGS)
    chosen = (
        f"scconv::FuseForm<{_bool(kind == 'pair')}, " + ", ".join(_bool(f in flags) for f in MIX_FLAGS) + ">"
    )
    constants = "{scale, shift}" if "affine" in flags else "{nullptr, nullptr}"
    added = "added" if "add" in flags else f"static_cast<const {TYPES[spec.dtype]}*>(nullptr)"
    last_each = f", {spec.each}" if last else ""
    start = f"scconv::mix_{'last' if last else 'planar'}<{chosen}, {whole}{last_each}>"
    return (
        "mix.cuh",
        "kMixThreads",
        f"{start}({pieces}, parts, {constants}, {added}, channels, plane, {spec.extras[-1]}, out);",
    )


def _flags(spec: KernelSpec, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    flags = tuple(f for f in text.split("_") if f)
    if flags != tuple(f for f in known if f in flags):
        raise _unknown(spec)
    return flags


def _unknown(spec: KernelSpec) -> InputError:
    return InputError(f"there is no kernel '{spec.operator}'")


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _taken(answer: tuple[Any, ...], doing: str) -> Any:
    status, *values = answer
    if int(status) != 0:
        raise BuildError(f"NVRTC could not {doing}: {status.name}")
    return values[0]


def _first_error(log: bytes | bytearray) -> str:
    lines = [line.strip() for line in log.rstrip(b"\0").decode(errors="replace").splitlines()]
    return next((line for line in lines if "error" in line), " ".join(lines) or "it gave no reason")


def _nvrtc() -> ModuleType:
    try:
        module = importlib.import_module("cuda.bindings.nvrtc")
        module.nvrtcVersion()
    except (ImportError, OSError, RuntimeError) as error:
        raise CapabilityError(
            f"the CUDA kernels cannot be compiled here ({type(error).__name__}: {error}); install NVRTC with: "
            f"{INSTALL}"
        ) from error
    return module


def compiler() -> str:
    """Name and version, as "NVRTC 13.5". Raises CapabilityError where it is not installed."""
    _, major, minor = _nvrtc().nvrtcVersion()
    return f"NVRTC {major}.{minor}"
