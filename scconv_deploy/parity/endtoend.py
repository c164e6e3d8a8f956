"""The whole artifact against the user's module and float64 truth, case by case, and on the task.

In half precision the user's own module, cast to the same type, runs beside it: what it loses is what the
type costs, whoever computes in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import ml_dtypes
import numpy as np

from scconv_deploy.contracts import Metric, Progress, Runner
from scconv_deploy.errors import InputError, VerificationError
from scconv_deploy.metrics import gated_value, judge
from scconv_deploy.parity.budgets import Settled
from scconv_deploy.parity.cases import Case
from scconv_deploy.parity.reference import Reference
from scconv_deploy.verdicts import TOP1, Comparison, TaskMetric, Verdict

TRUTH_ELEMENTS = 2**19
"""Input elements run in float64 (three images of 3x224x224): it costs several times fp32. A case that misses
its limit always gets its truth, since the verdict asks for it."""
HALF_ELEMENTS = 2**20
"""Random input elements run where torch simulates half arithmetic (four images of 3x224x224 in two cases);
real samples are run all."""

Outputs = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Sides:
    """Who is compared: the artifact, the user's program, its float64 truth (None where it cannot run so) and
    its module in the artifact's precision (None in fp32, or where it cannot be cast)."""

    artifact: Runner
    reference: Runner
    truth: Reference | None
    same: Reference | None


@dataclass
class EndToEnd:
    """Comparisons of artifact and reference, and of artifact, reference and same-precision PyTorch with truth.

    ``values`` are what each of ``direct`` was gated on; ``outputs`` of real samples are kept for the task.
    """

    direct: list[Comparison] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    wide: list[Comparison] = field(default_factory=list)
    itself: list[Comparison] = field(default_factory=list)
    same: list[Comparison] = field(default_factory=list)
    wanted: list[Outputs] = field(default_factory=list)
    made: list[Outputs] = field(default_factory=list)


def compare_all(
    sides: Sides, cases: Sequence[Case], settled: Settled, progress: Progress, bounded: bool
) -> EndToEnd:
    """Run every case on all sides.

    Args:
        sides: who is compared.
        cases: real samples and random inputs, floating ones as float32.
        settled: the limits.
        progress: told of every case.
        bounded: torch simulates half arithmetic, slowly: random cases beyond :data:`HALF_ELEMENTS` are left
            out, but for the first.

    Raises:
        VerificationError: the artifact refuses a case, or names other outputs.
    """
    found = EndToEnd()
    spent = simulated = 0
    for index, case in enumerate(cases):
        size = sum(a.size for a in case.inputs.values())
        if bounded and not case.real:
            if simulated and simulated + size > HALF_ELEMENTS:
                continue
            simulated += size
        progress.update(f"comparing {case.name}", index / len(cases))
        want, got = _both(sides, case)
        direct = [judge(case.name, n, want[n], got[n], settled.tolerance(n)) for n in want]
        found.direct += direct
        found.values += [gated_value(want[n], got[n], settled.tolerance(n)) for n in want]
        if case.real:
            found.wanted.append(want)
            found.made.append(got)
        missed = any(c.verdict is Verdict.FAIL for c in direct)
        if sides.truth is None or (spent + size > TRUTH_ELEMENTS and not missed):
            continue
        spent += size
        _against_truth(found, sides, case, want, got, settled)
    return found


def task_of(found: EndToEnd, metric: Metric | None) -> TaskMetric | None:
    """The user's metric, else top-1 agreement; None without real samples, or without classes."""
    if not found.wanted:
        return None
    want = {n: np.concatenate([w[n] for w in found.wanted]) for n in found.wanted[0]}
    got = {n: np.concatenate([g[n] for g in found.made]) for n in want}
    count = max(len(a) for a in want.values())
    if metric is not None:
        name = getattr(metric, "__name__", "metric")
        return TaskMetric(str(name), float(metric(want)), float(metric(got)), count)
    for name, array in want.items():
        if array.ndim == 2 and array.shape[1] > 1 and got[name].shape == array.shape:
            share = float((array.argmax(axis=1) == got[name].argmax(axis=1)).mean())
            return TaskMetric(TOP1, 1.0, share, count)
    return None


def _both(sides: Sides, case: Case) -> tuple[Outputs, Outputs]:
    want = {k: widened(v) for k, v in sides.reference.run(case.inputs).items()}
    try:
        got = {k: widened(v) for k, v in sides.artifact.run(case.inputs).items()}
    except InputError as error:
        raise VerificationError(
            f"the artifact does not run on {case.name}, which the model takes: {error}"
        ) from error
    must_name_the_same(want, got)
    return want, got


def must_name_the_same(want: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> None:
    """Raises VerificationError where one side has an output that the other lacks."""
    missing = set(want) ^ set(got)
    if missing:
        raise VerificationError(
            f"the artifact and the model name different outputs: {', '.join(sorted(missing))}"
        )


def _against_truth(
    found: EndToEnd, sides: Sides, case: Case, want: Outputs, got: Outputs, settled: Settled
) -> None:
    if sides.truth is None:
        return
    exact = sides.truth.run(case.inputs)
    same = None if sides.same is None else sides.same.try_run(case.inputs)
    for name in want:
        tolerance = settled.tolerance(name)
        found.wide.append(judge(case.name, name, exact[name], got[name], tolerance))
        found.itself.append(judge(case.name, name, exact[name], want[name], tolerance))
        if same is not None:
            found.same.append(judge(case.name, name, exact[name], widened(same[name]), tolerance))


class Typed:
    """A runner that is given float32 and takes another type: inputs are rounded to it, outputs widened."""

    def __init__(self, runner: Runner, types: Mapping[str, str]) -> None:
        self.runner = runner
        self.types = types

    def run(self, inputs: Mapping[str, np.ndarray]) -> Outputs:
        """Run once."""
        made = self.runner.run({k: cast_to(v, self.types.get(k)) for k, v in inputs.items()})
        return {k: widened(v) for k, v in made.items()}

    def __enter__(self) -> Self:
        self.runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.runner.__exit__(kind, error, trace)


def cast_to(array: np.ndarray, name: str | None) -> np.ndarray:
    """``array`` as the NumPy type called ``name`` (bfloat16 included); floating arrays only."""
    if name is None or not is_floating(array):
        return array
    return array.astype(ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name))


def is_floating(array: np.ndarray) -> bool:
    """Whether it holds floating numbers, bfloat16 included."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def widened(array: np.ndarray) -> np.ndarray:
    """16-bit floats as float32; the rest as it is."""
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array
