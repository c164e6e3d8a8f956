"""The user's metric is taken of both sides, on real samples alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scconv_deploy.config import Budgets, Precision
from scconv_deploy.contracts import Silence
from scconv_deploy.parity.budgets import settle
from scconv_deploy.parity.cases import Case
from scconv_deploy.parity.endtoend import EndToEnd, Sides, compare_all, task_of
from scconv_deploy.verdicts import Verdict


class Doubles:
    """A runner: the input, times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": inputs["x"] * self.factor}


def test_the_users_metric_is_taken_of_both_sides_on_real_samples_alone() -> None:
    cases = [
        Case("sample 0", {"x": np.ones((1, 2), np.float32)}, real=True),
        Case("random", {"x": np.full((1, 2), 100, np.float32)}),
    ]

    def mean(outputs: Mapping[str, np.ndarray]) -> float:
        return float(outputs["y"].mean())

    sides = Sides(Doubles(2.5), Doubles(2.0), None, None)  # type: ignore[arg-type]
    found = compare_all(sides, cases, settle(Precision.FP32, Budgets()), Silence(), bounded=False)
    task = task_of(found, mean)
    assert task is not None
    assert (task.name, task.reference, task.artifact, task.samples) == ("mean", 2.0, 2.5, 1)
    assert [c.verdict for c in found.direct] == [Verdict.FAIL, Verdict.FAIL]
    assert task_of(EndToEnd(), mean) is None
