"""Each limit passes fp32's own rounding and fails an error that a user would see; changes need a review."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from scconv_deploy import tolerances
from scconv_deploy.metrics import judge
from scconv_deploy.tolerances import AMBIGUOUS_FACTOR, END_TO_END_FP32, GATE_BAND_FP32, PIECE_FP32
from scconv_deploy.verdicts import TensorMetrics, Tolerance, Verdict

GATES = [v for v in vars(tolerances).values() if isinstance(v, Tolerance) and v.name.endswith("fp32")]
EPS = float(np.finfo(np.float32).eps)


def verdict(tolerance: Tolerance, want: np.ndarray, got: np.ndarray) -> Verdict:
    return judge("case", "output", want, got, tolerance).verdict


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 10))


def test_the_figures_are_the_reviewed_ones() -> None:
    assert [(t.atol, t.rtol) for t in (END_TO_END_FP32, PIECE_FP32)] == [(1e-6, 1e-3), (1e-8, 1e-4)]
    assert (GATE_BAND_FP32, AMBIGUOUS_FACTOR) == (4e-6, 4.0)
    assert len(GATES) == 2
    half = tolerances.LIMITS["fp16"].end_to_end
    tf32 = tolerances.END_TO_END_TF32
    assert (
        (tf32.metric, tf32.atol, tf32.rtol) == (half.metric, half.atol, half.rtol) == ("p99_abs", 1e-4, 5e-2)
    )


@pytest.mark.parametrize("tolerance", GATES, ids=lambda t: t.name)
def test_a_gate_names_a_metric_that_is_measured(tolerance: Tolerance) -> None:
    assert tolerance.metric in {f.name for f in fields(TensorMetrics)}


@pytest.mark.parametrize("tolerance", GATES, ids=lambda t: t.name)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rounding_passes_and_wrong_outputs_fail(
    tolerance: Tolerance, scale: float, reference: np.ndarray
) -> None:
    want = reference * scale
    assert verdict(tolerance, want, want.astype(np.float32)) is Verdict.PASS
    assert verdict(tolerance, want, want * (1 + 16 * EPS)) is Verdict.PASS
    for wrong in (2 * want, want[:, ::-1], want + 0.01 * scale, np.zeros_like(want), want * 1.01):
        assert verdict(tolerance, want, wrong) is Verdict.FAIL
    assert verdict(tolerance, want, np.where(want == want.max(), np.nan, want)) is Verdict.FAIL


def test_the_limits_of_codes_are_the_reviewed_ones() -> None:
    found = {
        k: (v.off_by_one, v.off, v.saturated, v.gates, v.parameter)
        for k, v in tolerances.QUANT_LIMITS.items()
    }
    assert found == {"fp32": (0.02, 1e-4, 0.01, 1e-3, 1e-5), "fp16": (0.1, 5e-3, 0.01, 1e-3, 2e-3)}
    ends = {k: tolerances.LIMITS[k] for k in ("int8", "fp8")}
    assert {k: (v.end_to_end.metric, v.end_to_end.rtol, v.top1, v.forgiven) for k, v in ends.items()} == {
        "int8": ("mean_abs", 0.15, 0.98, 1),
        "fp8": ("mean_abs", 0.3, 0.95, 1),
    }


def test_a_piece_is_judged_more_strictly_than_the_whole(reference: np.ndarray) -> None:
    off = reference + 5e-4 * np.abs(reference).max()
    assert verdict(END_TO_END_FP32, reference, off) is Verdict.PASS
    assert verdict(PIECE_FP32, reference, off) is Verdict.FAIL


def test_the_absolute_part_hides_no_block_behind_a_small_softmax() -> None:
    # A joint softmax over 2C channels scales outputs by 1/(2C); C is 2048 at most in the ResNets.
    assert PIECE_FP32.atol < PIECE_FP32.rtol / (2 * 2048)


def test_the_gate_band_is_some_roundings_wide_and_far_below_a_real_difference() -> None:
    assert 8 * EPS < GATE_BAND_FP32 < 64 * EPS
    assert PIECE_FP32.rtol > 10 * GATE_BAND_FP32
