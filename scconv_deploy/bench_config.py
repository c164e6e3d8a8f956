"""What the user asked ``scconv-bench`` for, checked once: options or keyword arguments -> frozen configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scconv_deploy.config import Form, ShapeRange
from scconv_deploy.errors import InputError


class BackendKind(StrEnum):
    """Ways to run a model that ``scconv-bench`` compares; ``plain`` is the twin without SCConv, ``ours`` and
    ``plugin`` our export in standard operators and with the fused ones."""

    EAGER = "eager"
    COMPILE = "compile"
    NAIVE = "naive"
    PLAIN = "plain"
    OURS = "ours"
    PLUGIN = "plugin"


@dataclass(frozen=True, slots=True)
class BenchConfig:
    """How to measure. Every combination of ``batches`` and ``threads`` is one measurement per backend.

    Each backend first runs unmeasured for at least ``warm_up_ms`` and until its calls stop getting faster,
    then until both ``duration_s`` have passed and at least ``iterations`` calls were timed (trtexec's meaning
    of the three). ``backends`` is what a model is measured as; None means all, ``ours`` and ``plugin`` only where no
    bundle is given. ``yardstick`` names what ratios refer to; None means the plain twin, else the first.
    ``provider`` is ONNX Runtime's, and never replaced by another. ``fail_if_slower`` is a share: 0.05 is 5 %.
    ``explain``: profile what was measured and put the honesty table together.
    """

    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    warm_up_ms: int = 200
    duration_s: float = 3.0
    iterations: int = 20
    shapes: tuple[ShapeRange, ...] = ()
    factory: str | None = None
    variant: str | None = None
    trust: tuple[str, ...] = ()
    yardstick: str | None = None
    seed: int = 0
    backends: tuple[BackendKind, ...] | None = None
    percentiles: tuple[float, ...] = (50.0, 90.0, 95.0, 99.0)
    provider: str | None = None
    raw: bool = False
    baseline: Path | None = None
    fail_if_slower: float | None = None
    explain: bool = True

    def __post_init__(self) -> None:
        if not self.batches or any(b < 1 for b in self.batches):
            raise InputError("batch sizes must be at least 1; write them like --batch 1,8")
        if not self.threads or any(t < 1 for t in self.threads):
            raise InputError("thread counts must be at least 1; write them like --threads 1,2")
        if self.warm_up_ms < 0 or not math.isfinite(self.duration_s) or self.duration_s < 0:
            raise InputError("--warmUp and --duration must not be negative")
        if self.iterations < 1:
            raise InputError(f"--iterations must be at least 1, not {self.iterations}")
        if any(not 0 < p < 100 for p in self.percentiles):
            raise InputError("percentiles lie between 0 and 100; write them like --percentile=90,95,99")
        if self.fail_if_slower is not None:
            if self.baseline is None:
                raise InputError("--fail-if-slower needs a stored run to compare with: --baseline FILE")
            if not (math.isfinite(self.fail_if_slower) and self.fail_if_slower >= 0):
                raise InputError(f"--fail-if-slower must be at least 0, not {self.fail_if_slower}")


@dataclass(frozen=True, slots=True)
class BreakEvenConfig:
    """What ``scconv-bench --break-even`` sweeps: one SCConv block of ``family`` against a 3x3 convolution, at
    every combination of ``channels``, ``sides`` (height and width) and ``batches``; ``duration_s`` per model."""

    channels: tuple[int, ...] = (64, 128, 256)
    sides: tuple[int, ...] = (56, 28, 14)
    batches: tuple[int, ...] = (1, 8)
    family: str = "F3"
    form: Form = Form.STANDARD
    threads: int = 1
    warm_up_ms: int = 60
    duration_s: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for option, values in (
            ("--channels", self.channels),
            ("--sides", self.sides),
            ("--batch", self.batches),
        ):
            if not values or any(v < 1 for v in values):
                raise InputError(f"{option} must be whole numbers of at least 1, like {option} 64,128")
        if self.threads < 1 or self.warm_up_ms < 0 or not 0 <= self.duration_s < math.inf:
            raise InputError("--threads must be at least 1, --warmUp and --duration must not be negative")
