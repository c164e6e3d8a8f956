"""The table of verdicts, line by line: what may be AMBIGUOUS and what never is."""

from __future__ import annotations

import numpy as np
import pytest

from scconv_deploy.metrics import judge
from scconv_deploy.parity.piecewise import PieceChecks
from scconv_deploy.parity.verdict import decide
from scconv_deploy.tolerances import AMBIGUOUS_FACTOR
from scconv_deploy.verdicts import Comparison, ParityReport, PieceCheck, Tolerance, Verdict

LIMIT = Tolerance("test", "max_abs", atol=0.01, rtol=0.0)


def off_by(error: float, output: str = "y") -> Comparison:
    return judge("case", output, np.zeros((2, 3)), np.full((2, 3), error), LIMIT)


def piece(name: str, good: bool) -> PieceCheck:
    return PieceCheck(name, Verdict.PASS if good else Verdict.FAIL, 4, 4, 0, 0.0, 0.1, "a sentence")


def checks(
    head: bool = True, block: bool = True, complete: bool = True, uncut: tuple[str, ...] = ()
) -> PieceChecks:
    made = (piece("layer1", block), piece("output 'y'", head))
    return PieceChecks(made, frozenset({"layer1"}), uncut, complete)


def decided(
    artifact: float,
    against_truth: float | None = None,
    itself: float | None = None,
    pieces: PieceChecks | None = None,
    other_gates: bool = False,
) -> ParityReport:
    return decide(
        subject="test",
        tolerance=LIMIT,
        comparisons=[off_by(artifact)],
        against_float64=[] if against_truth is None else [off_by(against_truth)],
        reference_against_float64=[] if itself is None else [off_by(itself)],
        pieces=checks() if pieces is None else pieces,
        has_other_gates=other_gates,
        artifact_executed=True,
        notes=(),
    )


def test_all_good() -> None:
    report = decided(0.001, 0.001, 0.001)
    assert report.verdict is Verdict.PASS
    assert "2 pieces agree one by one" in report.sentence


@pytest.mark.parametrize("error", [0.0, 0.5])
@pytest.mark.parametrize("other_gates", [False, True])
@pytest.mark.parametrize("itself", [0.0, 0.5])
def test_a_broken_block_always_fails_and_is_named(error: float, other_gates: bool, itself: float) -> None:
    report = decided(error, error, itself, checks(block=False), other_gates)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergent_block == "layer1"
    assert "first at layer1" in report.sentence


@pytest.mark.parametrize("other_gates", [False, True])
@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("against_truth", [0.02, 0.5, 5.0])
def test_a_broken_head_is_never_ambiguous(other_gates: bool, complete: bool, against_truth: float) -> None:
    """PyTorch itself is off, so AMBIGUOUS would be at hand."""
    report = decided(0.5, against_truth, 0.5, checks(head=False, complete=complete), other_gates)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergent_block == "output 'y'"


def test_ambiguous_where_pytorch_itself_is_as_far_off() -> None:
    report = decided(0.5, 0.4, 0.3)
    assert report.verdict is Verdict.AMBIGUOUS
    assert "the PyTorch model itself is" in report.sentence


@pytest.mark.parametrize(
    ("against_truth", "itself", "pieces"),
    [
        (0.5, 0.001, None),  # PyTorch is right
        (0.5 * AMBIGUOUS_FACTOR, 0.4, None),  # the artifact is much further off than PyTorch is
        (0.5, 0.5, checks(complete=False)),  # something was not proved
        (0.5, 0.5, PieceChecks()),  # nothing was proved
        (None, None, None),  # there is no truth
    ],
)
def test_not_ambiguous(against_truth: float | None, itself: float | None, pieces: PieceChecks | None) -> None:
    assert decided(0.5, against_truth, itself, pieces).verdict is Verdict.FAIL


def test_every_output_must_be_as_far_off_in_pytorch() -> None:
    """Output z is broken; output y is chaotic in PyTorch too."""
    report = decide(
        "test",
        LIMIT,
        [off_by(0.5), off_by(0.5, "z")],
        [off_by(0.5), off_by(0.5, "z")],
        [off_by(0.5), off_by(0.001, "z")],
        checks(),
        False,
        True,
        (),
    )
    assert report.verdict is Verdict.FAIL


def test_the_artifact_is_right_and_pytorch_is_off() -> None:
    report = decided(0.5, 0.001, 0.5)
    assert report.verdict is Verdict.PASS
    assert "float64" in report.sentence
    assert decided(0.5, 0.001, 0.5, PieceChecks()).verdict is Verdict.PASS


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_always_fail(bad: float) -> None:
    assert decided(bad, bad, bad).verdict is Verdict.FAIL
    assert decided(bad, 0.0, 0.5).verdict is Verdict.FAIL


def test_gates_outside_the_certified_blocks_excuse_only_the_rest_and_only_where_the_end_agrees() -> None:
    broken = checks(head=False)
    assert decided(0.001, 0.001, 0.001, broken).verdict is Verdict.FAIL
    assert decided(0.001, 0.001, 0.001, broken, other_gates=True).verdict is Verdict.PASS
    assert decided(0.001, 0.001, 0.001, checks(head=False, uncut=("layer2",))).verdict is Verdict.PASS
    assert decided(0.5, 0.5, 0.001, broken, other_gates=True).verdict is Verdict.FAIL
    report = decided(0.001, 0.001, 0.001, broken, other_gates=True)
    assert "1 pieces agree" in report.sentence


def test_no_pieces() -> None:
    assert decided(0.001, pieces=PieceChecks()).verdict is Verdict.PASS
    assert decided(0.5, pieces=PieceChecks()).verdict is Verdict.FAIL
