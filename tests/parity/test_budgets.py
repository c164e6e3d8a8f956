"""The user's limits over the precision's; each budget names what it found, and missing one is not keeping it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scconv_deploy.config import Budgets, ErrorStat, Precision
from scconv_deploy.metrics import gated_value, judge
from scconv_deploy.parity.budgets import (
    FLIP_RATE,
    FLIP_RATE_OF_CODES,
    end_budgets,
    gate_budgets,
    settle,
    task_budget,
)
from scconv_deploy.tolerances import END_TO_END_TF32, LIMITS
from scconv_deploy.verdicts import (
    TOP1,
    Comparison,
    GateCheck,
    PieceCheck,
    QuantCheck,
    TaskMetric,
    Tolerance,
    Verdict,
)


def block(name: str, flips: int, outside: int = 0) -> PieceCheck:
    gate = GateCheck("torch float16", 10_000, flips, outside, 1e-3, 1e-4, (), None, 0.0, 0.0, 0.1)
    return PieceCheck(name, Verdict.PASS, 4, 4, 0, 0.0, 0.1, "", gate=gate)


def compared(tolerance: Tolerance, error: np.ndarray, case: str = "case") -> tuple[Comparison, float]:
    want = np.array([[10.0, 1.0]])
    return judge(case, "y", want, want + error, tolerance), gated_value(want, want + error, tolerance)


def test_defaults_are_the_precisions_own() -> None:
    for precision in (Precision.FP32, Precision.FP16, Precision.BF16):
        settled = settle(precision, Budgets())
        assert settled.tolerance("y") == LIMITS[precision.value].end_to_end
        assert settled.max_flip_rate == LIMITS[precision.value].flip_rate
        assert not settled.asked("y")
        assert settled.by_user == frozenset()


def test_a_limit_for_one_output_leaves_the_others_alone() -> None:
    settled = settle(Precision.FP16, Budgets(atol={"out0": 1e-3}))
    assert settled.tolerance("out0") == Tolerance("--atol and --rtol", "p99_abs", 1e-3, 0.0)
    assert settled.tolerance("out1") == LIMITS["fp16"].end_to_end
    assert (settled.asked("out0"), settled.asked("out1")) == (True, False)
    every = settle(Precision.FP16, Budgets(atol={"out0": 1e-3, "": 0.5}))
    assert every.tolerance("out1").atol == 0.5
    assert every.tolerance("out0").atol == 1e-3


@pytest.mark.parametrize(
    ("stat", "error", "kept"),
    [
        # 5 % of each value: the small one's error is small.
        (ErrorStat.ELEMWISE, [[0.5, 0.05]], True),
        # The same largest error on the small value is half of it.
        (ErrorStat.ELEMWISE, [[0.05, 0.5]], False),
        (ErrorStat.MAX, [[0.05, 0.5]], True),
        (ErrorStat.MAX, [[0.05, 1.5]], False),
        (ErrorStat.MEDIAN, [[0.05, 1.5]], True),
    ],
)
def test_statistics(stat: ErrorStat, error: list[list[float]], kept: bool) -> None:
    settled = settle(Precision.FP32, Budgets(rtol={"": 0.1}, check_error_stat=stat))
    comparison, value = compared(settled.tolerance("y"), np.array(error))
    (budget,) = end_budgets(settled, [comparison], [value])
    assert budget.kept is kept
    assert stat.value in budget.name or "_abs" in budget.name


def test_the_worst_block_speaks_for_all() -> None:
    settled = settle(Precision.FP16, Budgets())
    rate, outside = gate_budgets(settled, [block("a", 0), block("b", 2, 1), block("c", 1)])
    assert (rate.name, rate.found, rate.kept) == (FLIP_RATE, 2e-4, False)
    assert "2 of 10000 gates flip in b" in rate.sentence
    assert (outside.found, outside.kept) == (1.0, False)
    loose = settle(Precision.FP16, Budgets(max_flip_rate=0.01))
    assert gate_budgets(loose, [block("b", 2)])[0].kept
    assert gate_budgets(settled, [replace(block("a", 0), gate=None)]) == []


def test_defaults_are_held_against_real_samples_and_the_users_limits_against_all() -> None:
    for budgets, kept in ((Budgets(), True), (Budgets(atol={"": 0.1}), False)):
        settled = settle(Precision.FP32, budgets)
        pairs = [
            compared(settled.tolerance("y"), np.array([[e, 0.0]]), c)
            for c, e in (("own", 0.0), ("noise", 5.0))
        ]
        comparisons, values = [p[0] for p in pairs], [p[1] for p in pairs]
        assert end_budgets(settled, comparisons, values, real={"own"})[0].kept is kept
        assert not end_budgets(settled, comparisons, values)[0].kept


def test_the_task() -> None:
    settled = settle(Precision.FP16, Budgets())
    assert task_budget(settled, TaskMetric(TOP1, 1.0, 0.997, 1000)).kept
    assert not task_budget(settled, TaskMetric(TOP1, 1.0, 0.996, 1000)).kept
    assert task_budget(settled, TaskMetric("iou", 0.800, 0.7985, 10)).kept
    worse = task_budget(settled, TaskMetric("iou", 0.80, 0.79, 10))
    assert not worse.kept
    assert "iou is 0.79 where PyTorch has 0.8" in worse.sentence


def test_a_16_bit_border_may_round_once_and_no_more() -> None:
    plain = settle(Precision.FP32, Budgets()).tolerance("y")
    border = settle(Precision.FP32, Budgets(), {"y": "bfloat16", "z": "float32"})
    assert border.tolerance("y").rtol == plain.rtol + 2.0**-8
    assert border.tolerance("z").rtol == plain.rtol
    asked = settle(Precision.FP32, Budgets(rtol={"": 1e-4}), {"y": "bfloat16"})
    assert asked.tolerance("y").rtol == 1e-4


def test_tf32_widens_the_end_to_end_default_of_fp32_and_nothing_else() -> None:
    plain, tf32 = settle(Precision.FP32, Budgets()), settle(Precision.FP32, Budgets(tf32=True))
    assert tf32.tolerance("y") == END_TO_END_TF32 != plain.tolerance("y")
    assert tf32.max_flip_rate == plain.max_flip_rate
    assert tf32.limits.structure == plain.limits.structure
    assert settle(Precision.FP16, Budgets(tf32=True)).tolerance("y") == LIMITS["fp16"].end_to_end
    asked = settle(Precision.FP32, Budgets(atol={"": 1e-9}, tf32=True)).tolerance("y")
    assert (asked.atol, asked.rtol) == (1e-9, 0.0), "the user's own limit comes first"


def test_one_of_few_real_samples_may_disagree_in_int8_and_two_may_not() -> None:
    settled = settle(Precision.INT8, Budgets())
    assert task_budget(settled, TaskMetric(TOP1, 1.0, 0.875, 8)).kept
    assert not task_budget(settled, TaskMetric(TOP1, 1.0, 0.75, 8)).kept
    assert not task_budget(settled, TaskMetric(TOP1, 1.0, 0.96, 450)).kept
    assert task_budget(settled, TaskMetric(TOP1, 1.0, 0.97, 450)).kept  # within two standard errors of 0.98
    assert not task_budget(settle(Precision.FP16, Budgets()), TaskMetric(TOP1, 1.0, 0.875, 8)).kept


def coded(name: str, flips: int | None, gates: int | None = 10_000) -> PieceCheck:
    """The Q/DQ of a block whose gates codes flip."""
    found = QuantCheck(3, 4, gates=gates, input_flips=flips)
    return PieceCheck(f"{name}, quantised", Verdict.PASS, 1, 1, 0, 0.0, 0.0, "", quantised=found)


def test_gates_that_codes_flip_count_where_the_user_sets_a_limit_and_only_there() -> None:
    pieces = [block("a", 0), block("b", 0), coded("a", 20), coded("b", 50), coded("none", None, None)]
    assert FLIP_RATE_OF_CODES not in [b.name for b in gate_budgets(settle(Precision.INT8, Budgets()), pieces)]
    for limit, kept in ((0.004, False), (0.005, True)):
        asked = settle(Precision.INT8, Budgets(max_flip_rate=limit))
        found = {b.name: b for b in gate_budgets(asked, pieces)}
        budget = found[FLIP_RATE_OF_CODES]
        assert (budget.limit, budget.found, budget.kept) == (limit, 0.005, kept)
        assert "flip 50 of 10000 gates in b, quantised" in budget.sentence
        assert found[FLIP_RATE].kept
    strict = settle(Precision.INT8, Budgets(max_flip_rate=0.0))
    without = gate_budgets(strict, [block("a", 0), coded("none", None, None)])
    assert FLIP_RATE_OF_CODES not in [b.name for b in without]
