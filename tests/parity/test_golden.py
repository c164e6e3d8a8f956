"""What an artifact gave at the export is kept where it missed PyTorch's outputs, and only that excuses it later."""

from __future__ import annotations

import numpy as np
import pytest

from scconv_deploy.config import Budgets, Precision
from scconv_deploy.metrics import judge
from scconv_deploy.parity.budgets import settle
from scconv_deploy.parity.golden import gives_again, with_own_outputs
from scconv_deploy.verdicts import GoldenSamples, ParityReport, Verdict

WANT = np.array([[10.0, -10.0]], np.float32)
SETTLED = settle(Precision.FP32, Budgets())
SAMPLES = GoldenSamples({"x": WANT}, {"y": WANT})
OFF = WANT + np.float32(3.0)
"""What rounding at gates made of it."""


def report(got: np.ndarray) -> ParityReport:
    """As a golden comparison with PyTorch's outputs ends."""
    found = judge("golden samples", "y", WANT, got, SETTLED.tolerance("y"))
    return ParityReport(found.verdict, found.sentence, "model.onnx", SETTLED.tolerance("y"), (found,))


def test_outputs_of_its_own_are_kept_only_where_one_missed() -> None:
    assert not with_own_outputs(SAMPLES, [{"y": WANT + np.float32(1e-5)}], SETTLED).own
    kept = with_own_outputs(SAMPLES, [{"y": OFF}], SETTLED).own
    np.testing.assert_array_equal(kept["y"], OFF[None])
    # As judged in a simulation it agrees; as it is served here it does not.
    both = with_own_outputs(SAMPLES, [{"y": WANT}, {"y": OFF}], SETTLED).own
    np.testing.assert_array_equal(both["y"], np.stack([WANT, OFF]))
    assert not with_own_outputs(SAMPLES, [{"y": OFF[:, :1]}], SETTLED).own


def test_a_wide_limit_of_the_user_does_not_hide_that_it_missed_the_default() -> None:
    wide = settle(Precision.FP32, Budgets(atol={"": 100.0}))
    assert with_own_outputs(SAMPLES, [{"y": OFF}], wide).own


def test_its_own_outputs_again_are_ambiguous_and_others_fail() -> None:
    golden = with_own_outputs(SAMPLES, [{"y": OFF}], SETTLED)
    again = gives_again(report(OFF), golden, {"y": OFF}, SETTLED)
    assert again.verdict is Verdict.AMBIGUOUS
    assert again.sentence.startswith("gives its own outputs at the export again, largest difference 0; ")
    assert len(again.comparisons) == 2
    doubled = 2 * OFF
    broken = gives_again(report(doubled), golden, {"y": doubled}, SETTLED)
    assert broken.verdict is Verdict.FAIL
    assert broken.sentence.endswith("nor does it give its own outputs at the export")
    lost = np.full_like(OFF, np.nan)
    assert gives_again(report(lost), golden, {"y": lost}, SETTLED).verdict is Verdict.FAIL


def test_without_outputs_of_its_own_nothing_is_excused() -> None:
    failed = report(OFF)
    assert failed.verdict is Verdict.FAIL
    assert gives_again(failed, SAMPLES, {"y": OFF}, SETTLED) is failed
    passed = report(WANT)
    assert (
        gives_again(passed, with_own_outputs(SAMPLES, [{"y": OFF}], SETTLED), {"y": WANT}, SETTLED) is passed
    )


@pytest.mark.parametrize("limits", [{"": 1e-3}, {"y": 1e-3}])
def test_a_limit_that_the_user_sets_stays_missed(limits: dict[str, float]) -> None:
    asked = settle(Precision.FP32, Budgets(atol=limits))
    golden = with_own_outputs(SAMPLES, [{"y": OFF}], asked)
    assert golden.own
    assert gives_again(report(OFF), golden, {"y": OFF}, asked).verdict is Verdict.FAIL
