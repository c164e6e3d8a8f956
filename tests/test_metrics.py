"""All metrics, computed by hand on small arrays; NaN and shape mismatches never pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scconv_deploy.metrics import judge, measure
from scconv_deploy.verdicts import Tolerance, Verdict

TIGHT = Tolerance("tight", "max_abs", atol=1e-3, rtol=1e-2)


def test_equal_arrays() -> None:
    x = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)
    found = measure(x, x.copy())
    assert (found.max_abs, found.mean_abs, found.p99_abs, found.max_rel) == (0.0, 0.0, 0.0, 0.0)
    assert found.cosine == pytest.approx(1.0)
    assert found.sqnr_db == math.inf
    assert found.top1_agreement == 1.0
    assert found.finite


def test_by_hand() -> None:
    want = np.array([[1.0, 3.0], [2.0, 2.5]])
    got = np.array([[1.0, 2.0], [2.0, 1.5]])
    found = measure(want, got)
    assert found.max_abs == 1.0
    assert found.mean_abs == 0.5
    assert found.max_rel == pytest.approx(1.0 / 2.5)
    assert found.sqnr_db == pytest.approx(10 * math.log10((1 + 9 + 4 + 6.25) / 2))
    assert found.top1_agreement == 0.5
    assert found.cosine == pytest.approx(
        (1 + 6 + 4 + 3.75) / math.sqrt((1 + 9 + 4 + 6.25) * (1 + 4 + 4 + 2.25))
    )


def test_differences_are_taken_in_float64() -> None:
    want, got = np.full(3, 60000, np.float16), np.full(3, -60000, np.float16)
    assert measure(want, got).max_abs == 120000.0  # inf in float16
    assert measure(np.array([255], np.uint8), np.array([0], np.uint8)).max_abs == 255.0


def test_values_near_zero_do_not_dominate_the_relative_error() -> None:
    assert measure(np.array([1e-12, 1.0]), np.array([1e-6, 1.0])).max_rel < 1e-5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["reference", "result", "both"])
def test_values_that_are_not_finite_fail(bad: float, side: str) -> None:
    want, got = np.ones((2, 3)), np.ones((2, 3))
    if side != "result":
        want[0, 1] = bad
    if side != "reference":
        got[0, 1] = bad
    loose = Tolerance("loose", "max_abs", atol=1e30, rtol=1e30)
    found = judge("case", "y", want, got, loose)
    assert found.verdict is Verdict.FAIL
    assert not found.metrics.finite
    assert "NaN or infinity in " + ("the result" if side == "result" else "the reference") in found.sentence


@pytest.mark.parametrize("shape", [(2, 4), (3, 2), (6,), (2, 3, 1), (1, 3), ()])
def test_shape_mismatches_fail_and_are_not_broadcast(shape: tuple[int, ...]) -> None:
    found = judge("case", "y", np.zeros((2, 3)), np.zeros(shape), TIGHT)
    assert found.verdict is Verdict.FAIL
    assert str(shape) in found.sentence
    with pytest.raises(ValueError, match="shapes differ"):
        measure(np.zeros((2, 3)), np.zeros(shape))


def test_the_limit_scales_with_the_reference() -> None:
    want = np.array([10.0, -100.0])
    assert judge("c", "y", want, want + 1.0, TIGHT).limit == pytest.approx(1.001)
    assert judge("c", "y", want, want + 1.0, TIGHT).verdict is Verdict.PASS
    assert judge("c", "y", want, want + 1.1, TIGHT).verdict is Verdict.FAIL
    assert judge("c", "y", want, want * 2, TIGHT).verdict is Verdict.FAIL


@pytest.mark.parametrize("metric", ["max_abs", "mean_abs", "p99_abs", "max_rel"])
def test_the_named_metric_gates(metric: str) -> None:
    want = np.ones(1000)
    got = want.copy()
    got[0] += 0.5  # one outlier: only the maxima see it
    found = judge("c", "y", want, got, Tolerance("t", metric, 1e-2, 0.0))
    assert (found.verdict is Verdict.FAIL) == metric.startswith("max")


@pytest.mark.parametrize(
    "array", [np.array(True), np.array([True, False]), np.array([[3, 4]]), np.array(2.5), np.zeros((0, 3))]
)
def test_other_dtypes_and_ranks(array: np.ndarray) -> None:
    assert judge("c", "y", array, array.copy(), TIGHT).verdict is Verdict.PASS


def test_a_zero_reference() -> None:
    assert judge("c", "y", np.zeros(3), np.full(3, 0.5), TIGHT).verdict is Verdict.FAIL
    found = measure(np.zeros(3), np.full(3, 0.5))
    assert found.cosine == 0.0
    assert found.sqnr_db == -math.inf


def test_top1_only_where_there_is_a_class_axis() -> None:
    assert measure(np.zeros((2, 3, 4)), np.zeros((2, 3, 4))).top1_agreement is None
    assert measure(np.zeros((2, 1)), np.zeros((2, 1))).top1_agreement is None
