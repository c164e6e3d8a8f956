"""Is a block of the graph the user's function? Decided in float64, without rounding, unit by unit.

The graph's block is lifted to float64. The gate's decisions are forced to the truth's, so that no comparison
of tensors meets a discontinuity, and the gate itself is judged by what it compares:

* its operands' difference must be the truth's ``s - logit(t)`` up to a positive factor per channel (exact
  rewrites divide by ``|w|``), on activations, on the edge input and at low variance;
* on a tie it must decide as ``>`` or ``>=`` of the specification does.

Then the SRU's halves, and behind the truth's halves the block's output, must agree to ``Limits.structure``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scconv_deploy.graph.units import Gate
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.parity.block import Block, edge_input, low_variance
from scconv_deploy.parity.exact import Steps
from scconv_deploy.parity.lifted import Lifted
from scconv_deploy.parity.samples import compare_samples, not_finite
from scconv_deploy.scconv.spec import Comparison
from scconv_deploy.tolerances import GATE_BAND_FP32, LIMITS, Limits
from scconv_deploy.verdicts import Tolerance, UnitCheck, Verdict

REAL_ELEMENTS = 2**18
"""Elements of real activations that the structure is judged on: float64 is slow, and few are enough."""
FLOAT64_BAND = 1e-9
"""Gates nearer than this to the threshold may decide otherwise in the user's own float64 (its sigmoid merges
a band around it)."""
SLACK = 4.0
"""Times what rounding the weights moves a block: every weight off by one unit in the last place, which is no
fault, moves it by 3.6 times as much (a unit on end against a third of one on average)."""
SILENT = 1e-6
"""A channel whose largest logit is below this share of the sample's says nothing about its factor."""


@dataclass(frozen=True, slots=True)
class Structure:
    """Outcome for one block: its units in the order in which they run, and the probes with their truth.

    ``real`` of the ``inputs`` are activations. ``inverted`` says that the graph's mask is the complement.
    ``cut`` says that gate and border were found where the specification has them.
    """

    units: tuple[UnitCheck, ...]
    inputs: Tensor
    real: int
    steps: Steps
    inverted: bool = False
    cut: bool = True

    @property
    def sound(self) -> bool:
        """Whether every unit agrees."""
        return all(u.verdict is Verdict.PASS for u in self.units)


def check_structure(block: Block, program: OnnxProgram, limits: Limits, dtype: torch.dtype) -> Structure:
    """Judge one block.

    Args:
        block: what to judge.
        program: its piece of the graph, lifted to float64.
        limits: of the graph's precision.
        dtype: that precision.
    """
    x, real = probes(block)
    steps = block.exact.run(x)
    own = _own_module(block, x[:real], steps)
    if own.verdict is Verdict.FAIL:
        return Structure((own,), x, real, steps)
    lifted = Lifted(program, block, x, steps)
    if not _is_cut(block, steps):
        return Structure((_whole(lifted, limits),), x, real, steps, cut=False)
    slack = SLACK * block.exact.rounding(steps, dtype, everywhere=False)
    units: list[UnitCheck] = []
    if block.exact.cru_first:
        made = lifted.values([*lifted.sru_input()], {})
        units.append(_compare("CRU", _given(steps), made[0], limits.structure, slack))
    inverted = False
    if steps.halves is not None:
        sru, inverted = _check_sru(lifted, limits)
        units.append(sru)
    made = lifted.values([lifted.out], lifted.halves())
    end = _compare("CRU", steps.out, made[0], limits.structure, slack)
    if steps.halves is not None and (block.exact.cru is None or block.exact.cru_first):
        # Behind the SRU stands only the Concat of its halves.
        units[-1] = units[-1] if units[-1].verdict is Verdict.FAIL or _passes(end) else _named(end, "SRU")
    else:
        units.append(end)
    return Structure(tuple(units), x, real, steps, inverted)


def probes(block: Block) -> tuple[Tensor, int]:
    """Activations, edge and low-variance inputs in float64, and how many of them are activations."""
    wanted = min(len(block.given), max(1, REAL_ELEMENTS // max(1, block.given[0].numel())))
    real = block.given[: -(-wanted // block.batch) * block.batch].double()
    spec = block.exact.spec.sru
    edge = edge_input(tuple(block.given[: block.batch].shape), spec).double()
    return torch.cat([real, edge, low_variance(real[: block.batch], spec)]), len(real)


def _is_cut(block: Block, steps: Steps) -> bool:
    if steps.halves is None:
        return True
    gate_known = steps.mask is None or block.units.gate is not None
    return gate_known and len(block.units.halves) == 2 and block.units.sru_input is not None


def _given(steps: Steps) -> Tensor:
    if steps.given is None:
        raise ValueError("this block has no SRU")
    return steps.given


def _own_module(block: Block, x: Tensor, steps: Steps) -> UnitCheck:
    """The user's module against its certified specification: samples with gates at the edge are excused."""
    wide = all(p.dtype is torch.float64 for p in block.own.parameters() if p.is_floating_point())
    tolerance = LIMITS["fp32"].structure if wide else LIMITS["fp32"].arithmetic
    want = block.run_own(x)
    return judge_samples(
        "module",
        want,
        steps.out[: len(x)],
        steps,
        FLOAT64_BAND if wide else GATE_BAND_FP32,
        tolerance,
        len(x),
    )


def _whole(lifted: Lifted, limits: Limits) -> UnitCheck:
    """The block as one, where its gate or border was not found: nothing is forced."""
    made = lifted.values([lifted.out], {})[0]
    real = len(made) - 2 * lifted.block.batch
    return judge_samples("block", lifted.steps.out, made, lifted.steps, FLOAT64_BAND, limits.structure, real)


def judge_samples(
    unit: str, want: Tensor, got: Tensor, steps: Steps, band: float, tolerance: Tolerance, real: int
) -> UnitCheck:
    """Sample by sample; one that misses is excused if a gate of it lies in ``band``, off the threshold
    itself or on it, but never all of the first ``real`` samples."""
    found = compare_samples(want, got, tolerance)
    margin = steps.margin
    near = [margin is not None and bool((margin[i] < band).any()) for i in range(len(want))]
    good = all(p or n for p, n in zip(found.passed, near, strict=True)) and any(found.passed[:real])
    worst, limit = found.worst
    sentence = f"largest difference {worst:.3g}, limit {limit:.3g}"
    if unit == "module" and not good:
        sentence = f"the user's module in float64 differs from its certified specification: {sentence}"
    return UnitCheck(unit, Verdict.PASS if good else Verdict.FAIL, worst, limit, sentence)


def _check_sru(lifted: Lifted, limits: Limits) -> tuple[UnitCheck, bool]:
    """The gate's operands and the halves; also whether the graph's mask is the complement of the truth's."""
    inverted = False
    halves = _check_halves(lifted, limits, inverted=False)
    if halves.verdict is Verdict.FAIL and lifted.block.units.gate is not None:
        other = _check_halves(lifted, limits, inverted=True)
        # A complement is legal only where the comparison points the other way too.
        if _passes(other) and _check_gate(lifted, limits, inverted=True) is None:
            halves, inverted = other, True
    wrong = _check_gate(lifted, limits, inverted) if _passes(halves) or not inverted else None
    if wrong is not None:
        return UnitCheck("SRU", Verdict.FAIL, halves.max_abs, halves.limit, wrong), inverted
    return halves, inverted


def _check_halves(lifted: Lifted, limits: Limits, inverted: bool) -> UnitCheck:
    wanted = lifted.halves()
    made = lifted.values([*wanted], lifted.sru_input() | lifted.mask(inverted))
    return _compare("SRU", torch.cat([*wanted.values()], dim=1), torch.cat(made, dim=1), limits.structure)


def _check_gate(lifted: Lifted, limits: Limits, inverted: bool) -> str | None:
    """What is wrong with the comparison, or None."""
    gate, steps, sru = lifted.block.units.gate, lifted.steps, lifted.block.exact.spec.sru
    if gate is None or steps.distance is None or steps.scale is None or sru is None:
        return None
    left, right = lifted.values([gate.left, gate.right], lifted.sru_input())
    if gate.literal:
        left, right = torch.logit(left), torch.logit(right)
    distance = ((left - right) * (gate.sign * (-1 if inverted else 1))).expand_as(steps.distance)
    factor = _factors(distance / steps.scale, steps.distance / steps.scale)
    if factor is not None and bool((factor < 0).all()):
        return f"its gate ({gate.kind}) compares the wrong way round"
    share = _disagreement(distance, factor, steps)
    if not share <= limits.logit:
        return (
            f"its gate compares another value than the certified logit: off by {share:.3g} of the largest "
            f"|s|, limit {limits.logit:.1g}"
        )
    return _wrong_tie(gate, sru.comparison, inverted)


def _factors(distance: Tensor, truth: Tensor) -> Tensor | None:
    """Per channel, the least-squares factor of ``distance`` over ``truth``; None where nothing is known."""
    heard = truth.abs().amax(dim=(0, 2, 3)) > SILENT
    power = truth.square().sum(dim=(0, 2, 3))
    factor = (distance * truth).sum(dim=(0, 2, 3)) / power.clamp(min=torch.finfo(truth.dtype).tiny)
    return torch.where(heard, factor, torch.nan)[heard] if bool(heard.any()) else None


def _disagreement(distance: Tensor, factor: Tensor | None, steps: Steps) -> float:
    """Largest difference of the logits, in units of the sample's largest, each channel by its own factor."""
    if factor is None or steps.distance is None or steps.scale is None:
        return 0.0
    truth = steps.distance / steps.scale
    heard = truth.abs().amax(dim=(0, 2, 3)) > SILENT
    if not bool((factor > 0).all()):
        return float("inf")
    made = (distance / steps.scale)[:, heard] / factor.view(-1, 1, 1)
    return float((made - truth[:, heard]).abs().max())


def _wrong_tie(gate: Gate, comparison: Comparison, inverted: bool) -> str | None:
    takes_ties = gate.kind.endswith("OrEqual") != inverted
    if takes_ties == (comparison is Comparison.GE):
        return None
    wanted = "s >= logit(t)" if comparison is Comparison.GE else "s > logit(t)"
    return f"its gate ({gate.kind}) decides otherwise on the threshold itself than the user's {wanted}"


def _compare(
    unit: str, want: Tensor, got: Tensor, tolerance: Tolerance, slack: Tensor | None = None
) -> UnitCheck:
    """Sample by sample, each against its own scale; the worst is reported."""
    if want.shape != got.shape:
        sentence = f"shape {tuple(got.shape)} against the truth's {tuple(want.shape)}"
        return UnitCheck(unit, Verdict.FAIL, float("inf"), 0.0, sentence)
    found = compare_samples(want, got, tolerance, slack)
    worst, limit = found.worst
    sentence = not_finite(want, got) or f"largest error {worst:.3g}, limit {limit:.3g} ({tolerance.name})"
    return UnitCheck(unit, Verdict.PASS if all(found.passed) else Verdict.FAIL, worst, limit, sentence)


def _passes(unit: UnitCheck) -> bool:
    return unit.verdict is Verdict.PASS


def _named(unit: UnitCheck, name: str) -> UnitCheck:
    return UnitCheck(name, unit.verdict, unit.max_abs, unit.limit, unit.sentence)
