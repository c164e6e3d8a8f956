"""Every limit that decides a verdict, named and in one place; none is a default hidden in a function.

``rtol`` multiplies the largest magnitude of the reference tensor. Limits are data by precision: the type in
which the graph computes what lies between its gates. See the figures of ``tests/bench/results/gates.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from scconv_deploy.verdicts import Tolerance

END_TO_END_FP32 = Tolerance(name="end-to-end fp32", metric="max_abs", atol=1e-6, rtol=1e-3)
"""Whole model against the user's PyTorch module. A network of 50 layers accumulates about 1e-5 of scale; one
soft gate that flips in a trained digits net moved the logits by 3e-5 to 1e-3 of scale (digits sample, F3)."""

END_TO_END_TF32 = Tolerance(name="end-to-end tf32", metric="p99_abs", atol=1e-4, rtol=5e-2)
"""Whole model on a GPU with TF32: fp16's limit, whose 10 bits of mantissa TF32 shares. TF32 rounds the inputs of
products only and fp16 everything, so that a limit that holds for fp16 holds here. Not run on a GPU (2026-11-22)."""

PIECE_FP32 = Tolerance(name="piece fp32", metric="max_abs", atol=1e-8, rtol=1e-4)
"""The layers between blocks, teacher-forced: a few roundings deep. The absolute part is tiny because a joint
softmax over 2C channels scales a block's output by 1/(2C)."""

AMBIGUOUS_FACTOR = 4.0
"""AMBIGUOUS needs the artifact to be at most this many times as far from float64 truth as the user's own
PyTorch module (in the same precision) is: gates that flip move both by the same order of magnitude."""

TASK_SLACK = 0.02
"""A quantised artifact's top-1 agreement may be this much below that of PyTorch fake-quantised alike, at most, to
count as what the precision costs, and one sample beside."""

GATE_BAND_FP32 = 4e-6
"""A gate is "near its threshold" when ``|s - logit(t)|`` is below this times the sample's largest ``|s|``:
about 32 fp32 roundings, the accumulated error of the statistics, the affine and the comparison."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of one precision.

    ``structure``: a unit of the graph in float64, given the truth's gates, against the user's function; above
    one unit in the last place of every weight, below any other function. ``logit``: the same for the gate's
    logit, relative to the sample's largest. ``arithmetic``: a unit or block in its own arithmetic, off the
    flips or with the gate forced. ``outside``: the layers between blocks. ``end_to_end``: the whole model.
    ``band``: where the gate is computed in this type (else :data:`GATE_BAND_FP32`). ``flip_rate``: largest
    share of flipped gates in a block. ``top1``: least top-1 agreement on real samples. ``unit``: one unit in the
    last place of 0.5.
    """

    structure: Tolerance
    logit: float
    arithmetic: Tolerance
    outside: Tolerance
    end_to_end: Tolerance
    band: float
    flip_rate: float
    top1: float
    unit: float
    forgiven: int = 0
    """Real samples that may disagree however few there are: one of eight says nothing of a share. Where it is not 0,
    the share itself is judged with its standard error."""


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(
        structure=Tolerance("structure fp32", "max_abs", 1e-9, 1e-5),
        logit=1e-5,
        arithmetic=Tolerance("arithmetic fp32", "max_abs", 1e-8, 1e-4),
        outside=PIECE_FP32,
        end_to_end=END_TO_END_FP32,
        band=GATE_BAND_FP32,
        flip_rate=1e-5,
        top1=1.0,
        unit=2.0**-24,
    ),
    # One unit in the last place is 2^-10 of a value in fp16 and 2^-7 in bf16: the limits of structure are two.
    "fp16": Limits(
        structure=Tolerance("structure fp16", "max_abs", 1e-6, 2e-3),
        logit=2e-3,
        arithmetic=Tolerance("arithmetic fp16", "max_abs", 1e-6, 5e-3),
        outside=Tolerance("piece fp16", "max_abs", 1e-6, 1e-2),
        end_to_end=Tolerance("end-to-end fp16", "p99_abs", 1e-4, 5e-2),
        band=8 * 2.0**-10,
        flip_rate=1e-4,
        top1=0.997,
        unit=2.0**-11,
    ),
    "bf16": Limits(
        structure=Tolerance("structure bf16", "max_abs", 1e-6, 1.6e-2),
        logit=1.6e-2,
        arithmetic=Tolerance("arithmetic bf16", "max_abs", 1e-6, 4e-2),
        outside=Tolerance("piece bf16", "max_abs", 1e-6, 8e-2),
        end_to_end=Tolerance("end-to-end bf16", "p99_abs", 1e-3, 2e-1),
        band=8 * 2.0**-7,
        flip_rate=1e-3,
        top1=0.99,
        unit=2.0**-8,
    ),
}
"""By the precision of the graph."""


@dataclass(frozen=True, slots=True)
class QuantLimits:
    """Limits of what int8 and fp8 add, beside those of the rest type.

    ``off_by_one``: largest share of a tensor's codes that may be one step off the graph's own arithmetic on the
    same codes (a sum that falls on the other side of a half); ``off``: by more than one step; ``gates``: largest
    share of SRU's decisions that may differ, on the same codes (equal values tie more often in codes). ``saturated``:
    largest share of an activation's values on real samples beyond its range. ``output``: the network's results
    from the same last codes. ``parameter``: relative rounding of stored scales.
    """

    off_by_one: float
    off: float
    saturated: float
    gates: float
    output: Tolerance
    parameter: float


QUANT_LIMITS: Mapping[str, QuantLimits] = {
    "fp32": QuantLimits(
        0.02, 1e-4, 0.01, 1e-3, Tolerance("codes to output, fp32", "max_abs", 1e-6, 1e-3), 1e-5
    ),
    # ONNX Runtime on CPU keeps some values between operators in float32 that the graph rounds to fp16.
    "fp16": QuantLimits(
        0.10, 5e-3, 0.01, 1e-3, Tolerance("codes to output, fp16", "max_abs", 1e-4, 2e-2), 2e-3
    ),
}
"""By the rest type."""

LIMITS = {
    **LIMITS,
    # Blocks are judged before Q/DQ in the rest type, and Q/DQ apart; only the whole network is judged here.
    "int8": replace(
        LIMITS["fp32"], end_to_end=Tolerance("end-to-end int8", "mean_abs", 1e-4, 0.15), top1=0.98, forgiven=1
    ),
    "fp8": replace(
        LIMITS["fp32"], end_to_end=Tolerance("end-to-end fp8", "mean_abs", 1e-4, 0.3), top1=0.95, forgiven=1
    ),
}
"""With the quantised precisions, whose limits of units and gates are those of their rest type."""
