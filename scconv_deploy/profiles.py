"""The vocabulary of *why*: what a network computes and moves, where its time goes, and what the machine allows.

``scconv-bench`` fills these beside its measurements. Imports neither torch nor onnx. Times are milliseconds per
call; "operations" are floating-point ones, two for a multiply-accumulate. A figure that would be a division by
nothing is None, never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scconv_deploy.measurements import Estimate

OUTSIDE = "(outside the blocks)"
UNATTRIBUTED = "(not attributed)"
NET = "(whole network)"


class Bound(StrEnum):
    """What limits operators on this machine: the ceiling they come closer to, which is the same as asking on
    which side of the ridge their intensity lies. OVERHEAD: they reach a tenth of neither."""

    MEMORY = "memory-bound"
    COMPUTE = "compute-bound"
    OVERHEAD = "overhead-bound"


class Standing(StrEnum):
    """How a place stands to the plain convolution's; LEVEL: the ratio's interval holds 1."""

    FASTER = "faster"
    SLOWER = "slower"
    LEVEL = "level"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Work:
    """Counted on the exported graph: multiply-accumulates, element-wise operations, and bytes.

    ``bytes_moved`` sums every operator's inputs, outputs and constants, as if nothing stayed in a cache;
    operators that only rename a shape move nothing.
    """

    macs: int = 0
    elementwise: int = 0
    bytes_moved: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.macs + other.macs,
            self.elementwise + other.elementwise,
            self.bytes_moved + other.bytes_moved,
        )

    @property
    def operations(self) -> int:
        """Two per multiply-accumulate, and the element-wise ones."""
        return 2 * self.macs + self.elementwise


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What this machine reached on operators that do nothing else: the roofline's two lines.

    ``gflop_per_s``: the better of a large matrix product and a large 3x3 convolution in float32;
    ``gb_per_s``: an addition of arrays far beyond the caches (two read, one written).
    """

    threads: int
    gflop_per_s: float
    gb_per_s: float
    how: str

    @property
    def ridge(self) -> float:
        """Operations per byte from which arithmetic, not memory, is the limit."""
        return self.gflop_per_s / self.gb_per_s


@dataclass(frozen=True, slots=True)
class Cost:
    """What one part of the network computes, moves and takes.

    ``gflops`` are 2 x MACs, as papers count; ``intensity`` and ``gflop_per_s`` count the element-wise
    operations too, of which SRU and fuse consist. ``share`` is of the time all operators take, 0 to 1;
    ``share_of_block`` of the block's. ``gb_per_s`` may exceed the machine's ceiling: caches are faster than
    memory.
    """

    name: str
    gflops: float
    elementwise_gflops: float
    mbytes: float
    intensity: float | None
    bound: Bound | None
    time_ms: Estimate
    share: float
    share_of_block: float | None
    gflop_per_s: float | None
    gb_per_s: float | None


@dataclass(frozen=True, slots=True)
class PlaceCost:
    """A block, or the whole network, against the plain convolution(s) in its place.

    ``plain`` says in words what stands there in the plain twin; ``ratio`` is time over its time.
    """

    cost: Cost
    units: tuple[Cost, ...]
    plain: str | None
    plain_ms: Estimate | None
    ratio: Estimate | None
    standing: Standing
    sentence: str


@dataclass(frozen=True, slots=True)
class HonestyTable:
    """One backend in one setting, taken apart. The shares of ``blocks``, ``outside`` and ``unattributed`` sum
    to 1. ``profiler_us`` per operator is what the profiler added and was taken off again."""

    name: str
    subject: str
    batch: int
    threads: int
    runs: int
    ceilings: Ceilings
    net: PlaceCost
    blocks: tuple[PlaceCost, ...]
    outside: Cost
    unattributed: Cost
    profiler_us: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BreakEvenPoint:
    """One SCConv block against the plain convolution of the same size: (N, C, side, side) in both."""

    channels: int
    side: int
    batch: int
    block_ms: Estimate
    plain_ms: Estimate
    ratio: Estimate
    standing: Standing


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Result of the sweep. ``sentences`` say from which width on the block is not slower."""

    family: str
    form: str
    threads: int
    kernel: int
    points: tuple[BreakEvenPoint, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...] = ()


def standing(ratio: Estimate | None) -> Standing:
    """FASTER or SLOWER only where the whole interval lies on that side of 1."""
    if ratio is None:
        return Standing.UNKNOWN
    if ratio.high < 1.0:
        return Standing.FASTER
    return Standing.SLOWER if ratio.low > 1.0 else Standing.LEVEL
