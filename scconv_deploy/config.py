"""What the user asked for, parsed and checked once: argv or keyword arguments -> frozen configuration.

No stage reads argv, environment variables or defaults of its own; they all read this.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from scconv_deploy.errors import InputError, nearest
from scconv_deploy.tensorrt_options import TensorRTOptions

DEFAULT_OPSET = 20
BF16_OPSET = 22
"""First opset whose Conv takes bfloat16."""
OPSETS = (18, 19, 20, 21, 22, 23)


class Precision(StrEnum):
    """Numeric type of the exported graph; INT8 and FP8 mean Q/DQ around the convolutions."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"


QUANTISED = (Precision.INT8, Precision.FP8)
FP8_OPSET = 19
"""First opset whose QuantizeLinear knows float8e4m3fn, and half-precision scales."""


class GateForm(StrEnum):
    """How SRU's gate is written: ``exact`` compares the logit, ``sigmoid`` is the paper's literal formula.

    The literal form flips 2 to 39 % of the gates in half precision; it is there to be compared with.
    """

    EXACT = "exact"
    SIGMOID = "sigmoid"


class ErrorStat(StrEnum):
    """Which statistic of an output's error its limit applies to (Polygraphy's ``--check-error-stat``)."""

    ELEMWISE = "elemwise"
    MAX = "max"
    MEAN = "mean"
    MEDIAN = "median"
    QUANTILE = "quantile"


class CalibMethod(StrEnum):
    """How a tensor's range is taken from its values on the calibration samples."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"


class Form(StrEnum):
    """``standard``: only operators of the ONNX standard; ``plugin``: ``scconv::`` operators."""

    STANDARD = "standard"
    PLUGIN = "plugin"


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """Smallest, most frequent and largest shape of one input (trtexec's min, opt, max).

    ``name`` is ``None`` where the user gave no name: it then means the model's only input.
    An axis is dynamic exactly when its minimum and maximum differ.
    """

    name: str | None
    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.minimum) == len(self.optimum) == len(self.maximum):
            raise InputError(
                f"shapes of input {self.name or '(unnamed)'} differ in rank: min {dims(self.minimum)}, "
                f"opt {dims(self.optimum)}, max {dims(self.maximum)}; give all three the same number of axes"
            )
        for axis, (lo, mid, hi) in enumerate(zip(self.minimum, self.optimum, self.maximum, strict=True)):
            if not 1 <= lo <= mid <= hi:
                raise InputError(
                    f"axis {axis} of input {self.name or '(unnamed)'} has min {lo}, opt {mid}, max {hi}; "
                    "it must hold that 1 <= min <= opt <= max"
                )

    @property
    def dynamic_axes(self) -> tuple[int, ...]:
        """Axes whose extent may vary."""
        return tuple(i for i, (lo, hi) in enumerate(zip(self.minimum, self.maximum, strict=True)) if lo != hi)


Profile = tuple[ShapeRange, ...]
"""One optimisation profile: a range for every dynamic input."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits the user set; what is left out takes the named default of the precision (``tolerances``).

    ``max_flip_rate``: largest share of gates per block that may decide otherwise than float64 truth, 0 to 1.
    ``atol``, ``rtol``: end-to-end limits by output name, ``""`` meaning every output; ``rtol`` multiplies the
    reference output's largest magnitude. ``check_error_stat``: the statistic that they apply to. ``tf32`` is set
    by the pipeline where the artifact runs with TF32, whose end-to-end default is wider than fp32's.
    """

    max_flip_rate: float | None = None
    atol: Mapping[str, float] = field(default_factory=dict)
    rtol: Mapping[str, float] = field(default_factory=dict)
    check_error_stat: ErrorStat | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.max_flip_rate is not None and not 0.0 <= self.max_flip_rate <= 1.0:
            raise InputError(f"--max-flip-rate is a share from 0 to 1, not {self.max_flip_rate}")
        for option, limits in (("--atol", self.atol), ("--rtol", self.rtol)):
            for value in limits.values():
                if not (math.isfinite(value) and value >= 0.0):
                    raise InputError(f"{option} must be a number of at least 0, not {value}")


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Everything that decides one export. ``shapes`` may be empty: the model file then says its own.

    ``profiles`` are several optimisation profiles, of which ``shapes`` hold the envelope
    (:func:`scconv_deploy.shape_profiles.combine`); empty where one range per input is enough.
    """

    target: str
    out: Path | None = None
    precision: Precision = Precision.FP32
    opset: int = DEFAULT_OPSET
    form: Form = Form.STANDARD
    gate: GateForm = GateForm.EXACT
    io_dtype: Precision = Precision.FP32
    budgets: Budgets = field(default_factory=Budgets)
    bisect: bool = False
    shapes: tuple[ShapeRange, ...] = ()
    factory: str | None = None
    variant: str | None = None
    trust: tuple[str, ...] = ()
    calib: Path | None = None
    calib_method: CalibMethod = CalibMethod.MINMAX
    rest: Precision | None = None
    compute_capabilities: tuple[str, ...] = ()
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)
    profiles: tuple[Profile, ...] = ()
    simplify: bool = True
    verify: bool = True
    force: bool = False
    seed: int = 0
    packages: tuple[str, ...] = ()
    """Formats of other people's servers to write beside the bundle (``packaging``)."""
    autotune_seconds: float | None = None
    """Time to spend on timing graph forms per block on this machine; None: the target's rule decides."""

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise InputError(
                f"opset {self.opset} is not supported; choose one of {OPSETS[0]} to {OPSETS[-1]} "
                f"(default {DEFAULT_OPSET})"
            )
        seconds = self.autotune_seconds
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            raise InputError(f"--autotune takes a number of seconds above 0, not {seconds:g}")
        if self.precision is Precision.BF16 and self.opset < BF16_OPSET:
            raise InputError(
                f"bf16 needs opset {BF16_OPSET} or later (Conv takes bfloat16 from there), not {self.opset}; "
                "leave --opset out"
            )
        if self.rest not in (None, Precision.FP32, Precision.FP16):
            raise InputError(f"--rest is fp32 or fp16, not {self.rest.value}")
        if self.rest is not None and self.precision not in QUANTISED:
            raise InputError(
                f"--rest is the type of what int8 and fp8 leave unquantised; in {self.precision.value} leave it out"
            )
        if self.precision is Precision.FP8 and self.opset < FP8_OPSET:
            raise InputError(f"fp8 needs opset {FP8_OPSET} or later, not {self.opset}; leave --opset out")
        if self.io_dtype not in (Precision.FP32, Precision.FP16, Precision.BF16):
            raise InputError(f"--io-dtype is fp32, fp16 or bf16, not {self.io_dtype.value}")


def default_opset(precision: Precision) -> int:
    """The opset used where the user names none."""
    return BF16_OPSET if precision is Precision.BF16 else DEFAULT_OPSET


def dims(shape: Sequence[int]) -> str:
    """``(1, 3, 224, 224)`` -> ``"1x3x224x224"``."""
    return "x".join(str(d) for d in shape) if shape else "scalar"


def parse_dims(text: str) -> tuple[int, ...]:
    """``"1x3x224x224"`` -> ``(1, 3, 224, 224)``; raises InputError in words."""
    if not re.fullmatch(r"\d+([x,]\d+)*", text):
        raise InputError(f"'{text}' is not a shape; write it like 1x3x224x224")
    shape = tuple(int(d) for d in re.split("[x,]", text))
    if any(d < 1 for d in shape):
        raise InputError(f"shape '{text}' has an axis of size 0; every axis must be at least 1")
    return shape


def parse_named_dims(texts: Sequence[str]) -> dict[str | None, tuple[int, ...]]:
    """``["a:1x3x8x8", "b:1x2"]`` or ``["1x3x8x8"]`` -> shapes by input name (None = the only input).

    A comma separates inputs within one text, as in trtexec: ``"a:1x3x8x8,b:1x2"``.
    """
    shapes: dict[str | None, tuple[int, ...]] = {}
    for text in texts:
        for part in text.split(",") if ":" in text else [text]:
            name, _, shape = part.rpartition(":")
            key = name or None
            if key in shapes:
                raise InputError(f"the shape of input {key or '(unnamed)'} is given twice; give it once")
            shapes[key] = parse_dims(shape)
    return shapes


def shape_ranges(
    static: Sequence[str] = (),
    minimum: Sequence[str] = (),
    optimum: Sequence[str] = (),
    maximum: Sequence[str] = (),
) -> tuple[ShapeRange, ...]:
    """Combine ``--input-shape`` and ``--minShapes/--optShapes/--maxShapes`` into one range per input.

    An input with only ``--input-shape`` is a point range. ``--optShapes`` defaults to ``--input-shape``,
    else to the minimum; a missing minimum or maximum defaults to the optimum.

    Raises:
        InputError: a name appears nowhere else, or ranks or bounds contradict each other.
    """
    fixed, lo, mid, hi = (parse_named_dims(t) for t in (static, minimum, optimum, maximum))
    names = list(dict.fromkeys([*fixed, *lo, *mid, *hi]))
    if None in names and len(names) > 1:
        other = next(n for n in names if n is not None)
        raise InputError(
            f"one shape names input '{other}' and another names none; name the input in all of them"
        )
    ranges = []
    for name in names:
        centre = mid.get(name) or fixed.get(name) or lo.get(name) or hi[name]
        ranges.append(ShapeRange(name, lo.get(name, centre), centre, hi.get(name, centre)))
    return tuple(ranges)


def parse_precision(text: str) -> Precision:
    """Name -> Precision, with the nearest valid name on a miss."""
    aliases: Mapping[str, str] = {"float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
    name = aliases.get(text.lower(), text.lower())
    try:
        return Precision(name)
    except ValueError:
        known = [p.value for p in Precision]
        raise InputError(
            f"precision '{text}' is unknown; choose one of {', '.join(known)}{nearest(name, known)}"
        ) from None
