"""What the user asks of TensorRT's builder, under trtexec's names: option texts -> a frozen, checked vocabulary.

The same object goes into the manifest (:func:`asked`), comes back out of it (:func:`from_json`) and is written
as the command that repeats it (:func:`words`). Shapes and profiles are not here: they belong to every target.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from scconv_deploy.errors import InputError, nearest

MIB = 2**20
UNITS = {"B": 1, "K": 2**10, "M": MIB, "G": 2**30}
"""Suffixes of ``--memPoolSize``; none means MiB, as in trtexec."""
LEVELS = range(6)
MAX_BUILDS = 32

T = TypeVar("T", bound=StrEnum)


class Pool(StrEnum):
    """A memory pool of the builder, as ``--memPoolSize`` names it."""

    WORKSPACE = "workspace"
    DLA_SRAM = "dlaSRAM"
    DLA_LOCAL_DRAM = "dlaLocalDRAM"
    DLA_GLOBAL_DRAM = "dlaGlobalDRAM"
    TACTIC_SHARED_MEM = "tacticSharedMem"


class Compatibility(StrEnum):
    """On which other GPUs the engine may run (``--hardwareCompatibilityLevel``)."""

    NONE = "none"
    AMPERE_PLUS = "ampere+"
    SAME_COMPUTE_CAPABILITY = "sameComputeCapability"


class Verbosity(StrEnum):
    """How much the engine says about its own kernels (``--profilingVerbosity``)."""

    LAYER_NAMES_ONLY = "layer_names_only"
    DETAILED = "detailed"
    NONE = "none"


class Keep(StrEnum):
    """By what the best of several builds is chosen; less is better for all of them.

    ``size``: bytes of the engine. ``kernels``: how many it launches. ``bytes``: what they move at the optimum
    shape (static shapes only). ``time``: the median on this machine's GPU.
    """

    SIZE = "size"
    KERNELS = "kernels"
    BYTES = "bytes"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class TensorRTOptions:
    """Everything besides the graph and its shapes; None leaves a choice to the builder.

    ``pools`` are limits in bytes. ``tf32`` lets FP32 products round their inputs to 10 bits of mantissa: not the
    function that was verified, so off unless asked for. ``keep`` None means time where a GPU can run the
    engine, else kernels. ``card`` is the GPU that the roofline estimate is for; None takes one of the engine's
    compute capabilities.

    Raises:
        InputError: a value is out of range, or two options contradict each other.
    """

    pools: Mapping[Pool, int] = field(default_factory=dict)
    optimization_level: int | None = None
    timing_cache: Path | None = None
    hardware_compatibility: Compatibility = Compatibility.NONE
    version_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    weight_streaming: bool = False
    max_aux_streams: int | None = None
    profiling_verbosity: Verbosity = Verbosity.DETAILED
    tf32: bool = False
    builds: int = 1
    keep: Keep | None = None
    card: str | None = None

    def __post_init__(self) -> None:
        for pool, size in self.pools.items():
            if size < 1:
                raise InputError(f"the memory pool {pool.value} is {size} bytes; it must be at least 1")
        if self.optimization_level is not None and self.optimization_level not in LEVELS:
            raise InputError(
                f"--builderOptimizationLevel is {LEVELS[0]} (fastest build) to {LEVELS[-1]} (fastest engine), "
                f"not {self.optimization_level}"
            )
        if self.max_aux_streams is not None and self.max_aux_streams < 0:
            raise InputError(f"--maxAuxStreams is a number of at least 0, not {self.max_aux_streams}")
        if not 1 <= self.builds <= MAX_BUILDS:
            raise InputError(f"--builds is 1 to {MAX_BUILDS}, not {self.builds}")
        if self.keep is not None and self.builds == 1:
            raise InputError(
                f"--keep {self.keep.value} chooses among several builds and there is one; add --builds 5"
            )


def pool_sizes(texts: Sequence[str], workspace_mib: int | None = None) -> dict[Pool, int]:
    """``["workspace:1024,tacticSharedMem:48K"]`` and ``--workspace``'s MiB -> bytes by pool.

    Raises:
        InputError: an unknown pool, a size that is none, or a pool given twice with different sizes.
    """
    found: dict[Pool, int] = {}
    if workspace_mib is not None:
        found[Pool.WORKSPACE] = _at_least_a_byte("--workspace", str(workspace_mib), workspace_mib * MIB)
    for part in (p.strip() for text in texts for p in text.split(",")):
        name, colon, size = part.partition(":")
        if not colon:
            raise InputError(
                f"--memPoolSize '{part}' is not a pool and a size; write it like "
                "--memPoolSize workspace:1024,tacticSharedMem:48K (no suffix: MiB)"
            )
        pool = one_of("memory pool", name, Pool)
        value = _size(part, size)
        if found.setdefault(pool, value) != value:
            raise InputError(
                f"the memory pool {pool.value} has two sizes ({found[pool]} and {value} bytes); give it once"
            )
    return found


def one_of(what: str, text: str, known: type[T]) -> T:
    """A member by its name in any case; InputError with the nearest one on a miss."""
    for member in known:
        if member.value.lower() == text.strip().lower():
            return member
    names = [member.value for member in known]
    raise InputError(
        f"{what} '{text}' is unknown; choose one of {', '.join(names)}{nearest(text.strip(), names)}"
    )


def words(options: TensorRTOptions) -> list[str]:
    """The options as command-line words; nothing for what is left as it was."""
    made: list[str] = []
    if options.pools:
        sizes = ",".join(f"{pool.value}:{_written(size)}" for pool, size in options.pools.items())
        made += [f"--memPoolSize={sizes}"]
    valued = (
        ("--builderOptimizationLevel", options.optimization_level),
        ("--timingCacheFile", options.timing_cache),
        ("--maxAuxStreams", options.max_aux_streams),
        ("--keep", options.keep),
        ("--card", options.card),
    )
    made += [f"{name}={value}" for name, value in valued if value is not None]
    if options.hardware_compatibility is not Compatibility.NONE:
        made += [f"--hardwareCompatibilityLevel={options.hardware_compatibility.value}"]
    if options.profiling_verbosity is not Verbosity.DETAILED:
        made += [f"--profilingVerbosity={options.profiling_verbosity.value}"]
    if options.builds != 1:
        made += [f"--builds={options.builds}"]
    flags = (
        ("--versionCompatible", options.version_compatible),
        ("--stripWeights", options.strip_weights),
        ("--refit", options.refit),
        ("--allowWeightStreaming", options.weight_streaming),
        ("--tf32", options.tf32),
    )
    return made + [name for name, given in flags if given]


def asked(options: TensorRTOptions) -> dict[str, Any]:
    """The options as JSON values, for the manifest and for the process that builds; every field is there."""
    return {
        "pools": {pool.value: size for pool, size in options.pools.items()},
        "optimization_level": options.optimization_level,
        "timing_cache": None if options.timing_cache is None else str(options.timing_cache),
        "hardware_compatibility": options.hardware_compatibility.value,
        "version_compatible": options.version_compatible,
        "strip_weights": options.strip_weights,
        "refit": options.refit,
        "weight_streaming": options.weight_streaming,
        "max_aux_streams": options.max_aux_streams,
        "profiling_verbosity": options.profiling_verbosity.value,
        "tf32": options.tf32,
        "builds": options.builds,
        "keep": None if options.keep is None else options.keep.value,
        "card": options.card,
    }


def from_json(stored: Mapping[str, Any] | None) -> TensorRTOptions:
    """What :func:`asked` wrote; options of later versions are left out, and nothing stored means the default.

    Raises:
        InputError: a value that this version does not know.
    """
    known = set(asked(TensorRTOptions()))
    given = {name: value for name, value in (stored or {}).items() if name in known}
    kinds: dict[str, type[StrEnum]] = {
        "hardware_compatibility": Compatibility,
        "profiling_verbosity": Verbosity,
        "keep": Keep,
    }
    for name, kind in kinds.items():
        if given.get(name) is not None:
            given[name] = one_of(name, str(given[name]), kind)
    if given.get("timing_cache") is not None:
        given["timing_cache"] = Path(str(given["timing_cache"]))
    pools = given.get("pools") or {}
    given["pools"] = {one_of("memory pool", str(k), Pool): int(v) for k, v in pools.items()}
    return TensorRTOptions(**given)


def _size(part: str, text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([BKMG]?)\s*", text, re.IGNORECASE)
    if found is None:
        raise InputError(
            f"--memPoolSize '{part}' has no size; write a number with B, K, M, G or nothing for MiB, "
            "like workspace:1024 or tacticSharedMem:48K"
        )
    return _at_least_a_byte(
        "--memPoolSize", part, math.floor(float(found[1]) * UNITS[found[2].upper() or "M"])
    )


def _at_least_a_byte(option: str, text: str, size: int) -> int:
    if size < 1:
        raise InputError(f"{option} '{text}' is less than a byte; give a larger size")
    return size


def _written(size: int) -> str:
    """The shortest exact spelling: whole MiB without a suffix, else KiB or bytes."""
    if size % MIB == 0:
        return str(size // MIB)
    return f"{size // 1024}K" if size % 1024 == 0 else f"{size}B"
