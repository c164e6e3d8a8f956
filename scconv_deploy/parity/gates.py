"""SRU's decisions of one block, in the artifact's own arithmetic, against float64 truth on the same inputs.

Teacher-forced on the reference's activations (and on variations of them until there are enough gates to see a
rate of 0.01 %), rounded to the type the graph takes. Three questions: how many gates flip, and how far from
the threshold do they lie? How far off are the SRU's halves where nothing flipped? How far off is the block
when the truth's gates are forced into it?
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scconv_deploy.parity.arithmetic import Arithmetic, Run
from scconv_deploy.parity.block import Block, jittered
from scconv_deploy.parity.budgets import FLIP_RATE, Settled
from scconv_deploy.parity.exact import Steps
from scconv_deploy.parity.samples import compare_samples
from scconv_deploy.parity.structure import SLACK, Structure
from scconv_deploy.parity.watching import WatchedGate, find_gate, read_gate
from scconv_deploy.tolerances import GATE_BAND_FP32, Limits
from scconv_deploy.verdicts import GateCheck, MarginBin

GATES = 2**18
"""Gates looked at per block, at least: the budget of 0.01 % is then 26 flips. Four times as many, which
``tests/bench/gates.py`` takes, cost a second per sixteen blocks."""
CHUNK = 2**19
"""Gates computed at once, so that a large map needs little memory."""
BINS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, float("inf"))


@dataclass(frozen=True, slots=True)
class GateForm:
    """What was asked: the graph's type, the gate to be computed in it too, or as the literal sigmoid."""

    dtype: torch.dtype
    in_half: bool
    literal: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """One block in the artifact's arithmetic: the largest error with the truth's gates, and its gates.

    ``gate`` is None where no decision depends on the input, or the comparison was not found.
    ``pytorch_overflows``: the result is not finite, and neither is that of the user's module in this type.
    """

    arithmetic: str
    error: float
    limit: float
    gate: GateCheck | None
    pytorch_overflows: bool = False

    @property
    def good(self) -> bool:
        """Whether the errors off the gates keep their limits."""
        off = None if self.gate is None else self.gate.error_off_flips
        calm = off is None or self.gate is None or off <= (self.gate.limit_off_flips or 0.0)
        return self.error <= self.limit and calm


def flips_in_words(gate: GateCheck) -> str:
    """``12 of 1048576 gates flip (0.0011 %)``."""
    return f"{gate.flips} of {gate.gates} gates flip ({100 * gate.flip_rate:.2g} %)"


def wrong_gate(block: Block, gate: GateCheck, settled: Settled) -> str | None:
    """Why the block's decisions are not those of the function, or None: of its halves off the flips, too."""
    budget, off = settled.max_flip_rate, gate.error_off_flips
    if not (off is None or off <= (gate.limit_off_flips or 0.0)):
        return (
            f"in {gate.arithmetic} it is off by more than rounding explains where no gate flipped: {off:.3g}, "
            f"limit {gate.limit_off_flips or 0.0:.3g}"
        )
    if gate.flips_outside_band:
        known = block.units.gate
        half = known is not None and known.half
        how = "its gate is computed in half precision" if half else "its gate is rounded where it decides"
        return (
            f"{how}: {flips_in_words(gate)}, {gate.flips_outside_band} of them farther from the threshold than "
            f"rounding explains (up to {gate.farthest_flip:.2g} of the largest |s|, band {gate.band:.2g})"
        )
    pytorch_too = gate.pytorch_flips is not None and gate.pytorch_flips >= gate.flips
    if gate.flip_rate > budget and (not pytorch_too or FLIP_RATE in settled.by_user):
        return f"its gate is rounded: {flips_in_words(gate)}, budget {100 * budget:.2g} %"
    return None


class _Tally:
    """Counts over chunks of gates."""

    def __init__(self, band: float, sigmoid_band: float) -> None:
        self.band = band
        self.sigmoid_band = sigmoid_band
        self.gates = self.flips = self.outside = 0
        self.farthest = 0.0
        self.all_bins = [0] * len(BINS)
        self.flip_bins = [0] * len(BINS)
        self.pytorch: int | None = 0

    def add(self, truth: Steps, flipped: Tensor, pytorch: Tensor | None) -> None:
        """``flipped`` of the artifact, and of the user's module where it was watched."""
        margin = truth.margin
        if margin is None or truth.scale is None:
            return
        allowed = (self.sigmoid_band / truth.scale).clamp(min=self.band).expand_as(margin)
        self.gates += flipped.numel()
        far = margin[flipped]
        self.flips += far.numel()
        self.outside += int((far >= allowed[flipped]).sum())
        self.farthest = max(self.farthest, float(far.max()) if far.numel() else 0.0)
        for counts, values in ((self.all_bins, margin), (self.flip_bins, far)):
            below = [int((values < edge).sum()) for edge in BINS]
            for i, count in enumerate(below):
                counts[i] += count - (below[i - 1] if i else 0)
        if pytorch is None or self.pytorch is None:
            self.pytorch = None
        else:
            self.pytorch += int(pytorch.sum())

    def histogram(self) -> tuple[MarginBin, ...]:
        """By distance from the threshold."""
        return tuple(MarginBin(*b) for b in zip(BINS, self.all_bins, self.flip_bins, strict=True))


def measure_block(
    block: Block,
    arithmetic: Arithmetic,
    structure: Structure,
    limits: Limits,
    same: nn.Module,
    form: GateForm,
) -> Measured:
    """Measure errors and count flips.

    Args:
        block: the block; its structure was found sound.
        arithmetic: runs its parts.
        structure: the probes with their truth.
        limits: of the graph's precision.
        same: the user's module of this block in the graph's precision.
        form: what was asked of the graph and its gate.
    """
    gate = block.units.gate if structure.cut else None
    x, steps = _real(block, arithmetic, structure)
    if steps.mask is None:
        gate = None
    forced = arithmetic.forced(gate)
    if forced is None or (gate is None and steps.mask is not None):
        # The gate is hidden: with decisions free to flip, no error of the whole block says anything.
        return Measured(arithmetic.name, 0.0, 0.0, None)
    values = {block.piece.inputs[0]: x}
    if gate is not None and steps.mask is not None:
        values[gate.mask] = ~steps.mask if structure.inverted else steps.mask
    slack = SLACK * block.exact.rounding(steps, form.dtype, everywhere=True)
    error, limit = compare_samples(steps.out, forced(values)[0], limits.arithmetic, slack).worst
    if not math.isfinite(error):
        return Measured(arithmetic.name, error, limit, None, _overflows(same, x))
    if gate is None:
        return Measured(arithmetic.name, error, limit, None)
    tally = _Tally(limits.band if form.in_half else GATE_BAND_FP32, _sigmoid_band(limits, form))
    run = arithmetic.mask(gate)
    if run is None:
        return Measured(arithmetic.name, error, limit, None)
    _count(block, arithmetic, run, structure.inverted, same, tally)
    off, off_limit = _off_flips(block, arithmetic, run, structure.inverted, steps, limits)
    check = GateCheck(
        arithmetic=arithmetic.name,
        gates=tally.gates,
        flips=tally.flips,
        flips_outside_band=tally.outside,
        band=tally.band,
        farthest_flip=tally.farthest,
        histogram=tally.histogram(),
        pytorch_flips=tally.pytorch,
        error_off_flips=off,
        error_forced=error,
        limit=limit,
        limit_off_flips=off_limit,
    )
    return Measured(arithmetic.name, error, limit, check)


@torch.no_grad()
def _overflows(same: nn.Module, x: Tensor) -> bool:
    try:
        made: Tensor = same(_as(same, x))
    except Exception:  # noqa: BLE001 - user code in a type it was not written for may raise anything
        return False
    return not bool(made.isfinite().all())


def _sigmoid_band(limits: Limits, form: GateForm) -> float:
    """``|s|`` below which the literal form decides by rounding: ``sigmoid(s) - 0.5 = s / 4``, with two units
    in the last place of 0.5 (``limits.unit``) to lose."""
    return 8.0 * limits.unit if form.literal else 0.0


def _real(block: Block, arithmetic: Arithmetic, structure: Structure) -> tuple[Tensor, Steps]:
    """The activations as the graph takes them, with their truth."""
    real = structure.inputs[: structure.real]
    x = arithmetic.rounded(real, block.piece.inputs[0])
    if bool((x.double() == real).all()):
        return x, structure.steps.first(structure.real)
    return x, block.exact.run(x)


def _off_flips(
    block: Block, arithmetic: Arithmetic, run: Run, inverted: bool, steps: Steps, limits: Limits
) -> tuple[float | None, float]:
    """The SRU's largest error where neither of the two gates behind a value flipped."""
    halves = arithmetic.halves()
    name = block.units.sru_input
    if halves is None or name is None or steps.given is None:
        return None, 0.0
    given = arithmetic.rounded(steps.given, name)
    same = bool((given.double() == steps.given).all())
    truth = steps if same else block.exact.from_sru(given)
    if truth.mask is None or truth.halves is None:
        return None, 0.0
    flipped = (run({name: given})[0] != truth.mask) != inverted
    half = flipped.shape[1] // 2
    either = flipped[:, :half] | flipped[:, half:]
    made = torch.cat(halves({name: given}), dim=1).double()
    calm = torch.where(torch.cat([either, either], dim=1), truth.halves, made)
    return compare_samples(truth.halves, calm, limits.arithmetic).worst


def _count(
    block: Block, arithmetic: Arithmetic, run: Run, inverted: bool, same: nn.Module, tally: _Tally
) -> None:
    name = block.units.sru_input or block.piece.inputs[0]
    per_sample = block.given[0].numel()
    total = -(-max(1, GATES // per_sample) // block.batch) * block.batch
    total = max(total, block.batch)
    step = max(1, CHUNK // per_sample // block.batch) * block.batch
    watched = _watched(block)
    samples = jittered(block.given, total, seed=0)
    if block.exact.cru_first:
        watched = None  # its SRU sees what its own CRU made, not what is forced here
    for at in range(0, total, step):
        x = arithmetic.rounded(samples[at : at + step], block.piece.inputs[0])
        # The truth of an SRU behind the CRU starts from the CRU's exact result.
        middle = block.exact.run_cru(x.double()) if block.exact.cru_first else x.double()
        given = arithmetic.rounded(middle, name)
        truth = block.exact.from_sru(given, only_gate=True)
        if truth.mask is None or truth.margin is None:
            return
        mask = run({name: given})[0]
        theirs = None if watched is None else read_gate(same, _as(same, x), watched, truth.mask.shape)
        tally.add(
            truth,
            (mask != truth.mask) != inverted,
            None if theirs is None else theirs != truth.mask,
        )


def _watched(block: Block) -> WatchedGate | None:
    if block.exact.cru_first or block.exact.sru is None:
        return None
    x = block.given[: block.batch]
    truth = block.exact.from_sru(x, only_gate=True)
    dtype = next((p.dtype for p in block.own.parameters() if p.is_floating_point()), torch.float64)
    return None if truth.mask is None else find_gate(block.own, x.to(dtype), truth.mask)


def _as(module: nn.Module, x: Tensor) -> Tensor:
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), x.dtype)
    return x.to(dtype)
