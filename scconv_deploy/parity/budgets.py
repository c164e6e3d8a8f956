"""The user's limits and the precision's named defaults -> the limits of this run, and which of them were kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scconv_deploy.config import Budgets, ErrorStat, Precision
from scconv_deploy.metrics import ELEMWISE
from scconv_deploy.tolerances import END_TO_END_TF32, LIMITS, Limits
from scconv_deploy.verdicts import TOP1, Budget, Comparison, GateCheck, PieceCheck, TaskMetric, Tolerance

FLIP_RATE = "max-flip-rate"
FLIP_RATE_OF_CODES = "max-flip-rate, through codes"
END_TO_END = "end to end"
TASK_LOSS = 0.003
"""Share by which the user's own metric may differ, where it is no top-1 agreement."""

METRICS = {
    ErrorStat.ELEMWISE: ELEMWISE,
    ErrorStat.MAX: "max_abs",
    ErrorStat.MEAN: "mean_abs",
    ErrorStat.MEDIAN: "median_abs",
    ErrorStat.QUANTILE: "p99_abs",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """The limits of one run. ``by_user`` are the names of the budgets that the user set; ``rounding`` is what
    a 16-bit type at the border (``--io-dtype``) may move an output by, relative, by output name."""

    limits: Limits
    budgets: Budgets
    by_user: frozenset[str]
    rounding: Mapping[str, float] = field(default_factory=dict)

    @property
    def max_flip_rate(self) -> float:
        """Largest share of flipped gates in a block."""
        asked = self.budgets.max_flip_rate
        return self.limits.flip_rate if asked is None else asked

    def tolerance(self, output: str) -> Tolerance:
        """The end-to-end tolerance of one output.

        Where the user gives only one of atol and rtol the other is 0, so that what is given is the limit.
        """
        default, given = self.limits.end_to_end, self.budgets
        stat = given.check_error_stat
        metric = default.metric if stat is None else METRICS[stat]
        atol = given.atol.get(output, given.atol.get(""))
        rtol = given.rtol.get(output, given.rtol.get(""))
        if atol is None and rtol is None:
            name = default.name if stat is None else f"{default.name}, {stat.value}"
            return Tolerance(name, metric, default.atol, default.rtol + self.rounding.get(output, 0.0))
        return Tolerance("--atol and --rtol", metric, atol or 0.0, rtol or 0.0)

    def asked(self, output: str) -> bool:
        """Whether the user set the end-to-end limit of this output."""
        given = self.budgets
        return any(name in given.atol or name in given.rtol for name in (output, ""))


def settle(precision: Precision, budgets: Budgets, outputs: Mapping[str, str] | None = None) -> Settled:
    """The user's limits over the precision's; ``outputs`` are the outputs' types by name."""
    asked = set()
    if budgets.max_flip_rate is not None:
        asked.add(FLIP_RATE)
    if budgets.atol or budgets.rtol:
        asked.add(END_TO_END)
    border = {"float16": Precision.FP16, "bfloat16": Precision.BF16}
    rounding = {n: LIMITS[border[kind].value].unit for n, kind in (outputs or {}).items() if kind in border}
    limits = LIMITS[precision.value]
    if budgets.tf32 and precision is Precision.FP32:
        limits = replace(limits, end_to_end=END_TO_END_TF32)
    return Settled(limits, budgets, frozenset(asked), rounding)


def gate_budgets(settled: Settled, pieces: Sequence[PieceCheck]) -> list[Budget]:
    """Flips and errors of the worst block; nothing where no block has gates of its own."""
    gates = [(p.piece, p.gate) for p in pieces if p.gate is not None]
    if not gates:
        return []
    return [*_of_arithmetic(settled, gates), *_of_codes(settled, pieces)]


def _of_codes(settled: Settled, pieces: Sequence[PieceCheck]) -> list[Budget]:
    """Gates that decide otherwise because SRU's input is a code: only where the user set a limit, since 8 bits have
    no share of flips that could be expected of every network."""
    if FLIP_RATE not in settled.by_user:
        return []
    found = [(p.piece, p.quantised) for p in pieces if p.quantised is not None and p.quantised.gates]
    rates = [((q.input_flips or 0) / (q.gates or 1), path, q) for path, q in found]
    if not rates:
        return []
    rate, path, worst = max(rates, key=lambda item: item[0])
    limit = settled.max_flip_rate
    sentence = f"codes of SRU's input flip {worst.input_flips} of {worst.gates} gates in {path}, the most of all blocks"
    return [Budget(FLIP_RATE_OF_CODES, limit, rate, rate <= limit, sentence)]


def _of_arithmetic(settled: Settled, gates: Sequence[tuple[str, GateCheck]]) -> list[Budget]:
    path, worst = max(gates, key=lambda g: g[1].flip_rate)
    far, outside = max(gates, key=lambda g: g[1].flips_outside_band)
    limit = settled.max_flip_rate
    return [
        Budget(
            FLIP_RATE,
            limit,
            worst.flip_rate,
            worst.flip_rate <= limit,
            f"{worst.flips} of {worst.gates} gates flip in {path}, the most of all blocks",
        ),
        Budget(
            "flips outside the rounding band",
            0.0,
            float(outside.flips_outside_band),
            outside.flips_outside_band == 0,
            f"{outside.flips_outside_band} flips in {far} lie farther from the threshold than "
            f"{outside.band:.2g} of the largest |s|",
        ),
    ]


def end_budgets(
    settled: Settled,
    comparisons: Sequence[Comparison],
    values: Sequence[float],
    real: Collection[str] = (),
) -> list[Budget]:
    """One per output: the comparison that comes nearest to its limit. ``values`` are what was gated on.

    Where ``real`` names cases of real samples, a default limit is held against them alone: on noise a trained
    network's gates stand anywhere. A limit that the user set is held against every case.
    """
    made = []
    for output in dict.fromkeys(c.output for c in comparisons):
        own = [(v, c) for v, c in zip(values, comparisons, strict=True) if c.output == output]
        if not settled.asked(output) and any(c.case in real for _, c in own):
            own = [(v, c) for v, c in own if c.case in real]
        value, worst = max(own, key=lambda pair: pair[0] / pair[1].limit if pair[1].limit else pair[0])
        name = f"{END_TO_END}, {output} ({settled.tolerance(output).metric})"
        made.append(Budget(name, worst.limit, value, worst.verdict.value == "PASS", worst.sentence))
    return made


def task_budget(settled: Settled, task: TaskMetric) -> Budget:
    """Top-1 agreement against its floor; any other metric against what it was in PyTorch."""
    if task.name == TOP1:
        sentence = f"top-1 agreement {task.artifact:.4g} on {task.samples} samples"
        floor = _floor(settled.limits, task.samples)
        return Budget(TOP1, floor, task.artifact, task.artifact >= floor, sentence)
    loss = abs(task.reference - task.artifact)
    limit = TASK_LOSS * max(abs(task.reference), 1e-12)
    sentence = f"{task.name} is {task.artifact:.6g} where PyTorch has {task.reference:.6g}"
    return Budget(task.name, limit, loss, loss <= limit, sentence)


def _floor(limits: Limits, samples: int) -> float:
    """The least top-1 agreement. Where few samples may disagree by chance (``forgiven``), two standard errors of a
    share below it, and at least those few."""
    if not limits.forgiven or not samples:
        return limits.top1
    error = math.sqrt(limits.top1 * (1.0 - limits.top1) / samples)
    return min(limits.top1 - 2.0 * error, 1.0 - limits.forgiven / samples)
