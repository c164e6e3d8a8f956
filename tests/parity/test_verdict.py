"""The table of verdicts, line by line: what may be AMBIGUOUS and what never is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scconv_deploy.metrics import judge
from scconv_deploy.parity.piecewise import PieceChecks
from scconv_deploy.parity.verdict import Evidence, decide
from scconv_deploy.tolerances import AMBIGUOUS_FACTOR
from scconv_deploy.verdicts import (
    Budget,
    Comparison,
    GateCheck,
    ParityReport,
    PieceCheck,
    TaskMetric,
    Tolerance,
    UnitCheck,
    Verdict,
)

LIMIT = Tolerance("test", "max_abs", atol=0.01, rtol=0.0)


def off_by(error: float, output: str = "y") -> Comparison:
    return judge("case", output, np.zeros((2, 3)), np.full((2, 3), error), LIMIT)


def gate(flips: int) -> GateCheck:
    return GateCheck("torch float16", 1000, flips, 0, 1e-3, 1e-4, (), None, 0.0, 0.0, 0.1)


def piece(name: str, good: bool, flips: int = 0) -> PieceCheck:
    verdict = Verdict.PASS if good else Verdict.FAIL
    return PieceCheck(name, verdict, 4, 4, 0, 0.0, 0.1, "a sentence", gate=gate(flips))


def checks(
    head: bool = True, block: bool = True, complete: bool = True, uncut: tuple[str, ...] = (), flips: int = 0
) -> PieceChecks:
    made = (piece("layer1", block, flips), replace(piece("output 'y'", head), gate=None))
    return PieceChecks(made, frozenset({"layer1"}), uncut, complete)


def decided(
    artifact: float,
    against_truth: float | None = None,
    itself: float | None = None,
    pieces: PieceChecks | None = None,
    other_gates: bool = False,
    **changes: object,
) -> ParityReport:
    found = Evidence(
        comparisons=[off_by(artifact)],
        against_float64=[] if against_truth is None else [off_by(against_truth)],
        reference_against_float64=[] if itself is None else [off_by(itself)],
        same_precision=(),
        pieces=checks() if pieces is None else pieces,
        has_other_gates=other_gates,
    )
    return decide(replace(found, **changes), "test", LIMIT, artifact_executed=True, notes=())  # type: ignore[arg-type]


def half(
    artifact: float, same: float, pieces: PieceChecks | None = None, precision: str = "fp16"
) -> ParityReport:
    """In half precision: the artifact against truth, and PyTorch cast to the same type."""
    return decided(artifact, artifact, 0.0, pieces, same_precision=[off_by(same)], precision=precision)


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


def test_the_unit_at_fault_is_named() -> None:
    broken = replace(
        piece("layer1", good=False),
        sentence="layer1.CRU: too far",
        units=(UnitCheck("SRU", Verdict.PASS, 0, 1, ""), UnitCheck("CRU", Verdict.FAIL, 2, 1, "too far")),
    )
    report = decided(0.0, pieces=PieceChecks((broken,), frozenset({"layer1"}), (), True))
    assert report.sentence.endswith("first at layer1.CRU: too far")


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
        (0.5, 0.001, checks(flips=3)),  # flips are no excuse in fp32, where PyTorch does not flip
    ],
)
def test_not_ambiguous(against_truth: float | None, itself: float | None, pieces: PieceChecks | None) -> None:
    assert decided(0.5, against_truth, itself, pieces).verdict is Verdict.FAIL


def test_every_output_must_be_as_far_off_in_pytorch() -> None:
    """Output z is broken; output y is chaotic in PyTorch too."""
    both = [off_by(0.5), off_by(0.5, "z")]
    report = decided(
        0.5,
        comparisons=both,
        against_float64=both,
        reference_against_float64=[off_by(0.5), off_by(0.001, "z")],
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
    assert "itself" not in half(bad, 0.0).sentence
    report = half(bad, bad)
    assert report.verdict is Verdict.FAIL
    assert "fp16 itself" in report.sentence
    assert "--precision bf16" in report.sentence


def test_half_precision_itself_and_benign_flips_are_told_apart_from_this_export() -> None:
    itself = half(0.5, 0.4)
    assert itself.verdict is Verdict.AMBIGUOUS
    assert "fp16 itself" in itself.sentence
    flips = half(0.5, 0.001, checks(flips=3))
    assert flips.verdict is Verdict.AMBIGUOUS
    assert "3 gates flip, all of them inside the rounding band" in flips.sentence
    assert half(0.5, 0.001).verdict is Verdict.FAIL
    assert half(0.5, 0.4, checks(flips=3, complete=False)).verdict is Verdict.FAIL
    assert half(0.001, 0.4, checks(flips=3)).verdict is Verdict.PASS
    assert "bf16 itself" in half(0.5, 0.4, precision="bf16").sentence


def test_real_samples_that_agree_outweigh_noise() -> None:
    """Only where the miss on noise is excused, and no real sample is among what missed."""
    noise, sample = off_by(0.5), replace(off_by(0.001), case="samples 0 to 2")
    cases: dict[str, Any] = {
        "comparisons": [sample, noise],
        "same_precision": [off_by(0.4)],
        "precision": "fp16",
    }
    real = frozenset({"samples 0 to 2"})
    found = decided(0.5, 0.5, 0.0, real=real, **cases)
    assert found.verdict is Verdict.PASS
    assert "agrees with PyTorch on 1 comparison" in found.sentence
    assert "on random inputs case: max_abs 0.5" in found.sentence
    assert decided(0.5, 0.5, 0.0, **cases).verdict is Verdict.AMBIGUOUS
    assert decided(0.5, 0.5, 0.0, real=real | {"case"}, **cases).verdict is Verdict.AMBIGUOUS
    assert (
        decided(0.5, 0.5, 0.0, real=real, **(cases | {"same_precision": [off_by(0.0)]})).verdict
        is Verdict.FAIL
    )


def test_budgets() -> None:
    missed = Budget("top-1 agreement", 0.997, 0.9, kept=False, sentence="top-1 agreement 0.9 on 10 samples")
    kept = replace(missed, kept=True)
    assert decided(0.0, default=[kept]).verdict is Verdict.PASS
    report = decided(0.0, default=[missed])
    assert report.verdict is Verdict.FAIL
    assert "top-1 agreement 0.9" in report.sentence
    named = decided(0.0, 0.0, 0.5, asked=[missed])
    assert named.verdict is Verdict.FAIL
    assert "the budget 'top-1 agreement' is missed" in named.sentence
    assert named.budgets == (missed,)
    # What the user asked for is never excused: here PyTorch itself is as far off.
    assert decided(0.5, 0.4, 0.3, asked=[missed]).verdict is Verdict.FAIL


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


def coded(artifact: float, itself: float, samples: int = 200) -> ParityReport:
    """In int8: every piece good, top-1 agreement of the artifact and of PyTorch fake-quantised; 0.98 asked."""
    task = TaskMetric("top-1 agreement", 1.0, artifact, samples)
    missed = Budget("top-1 agreement", 0.98, artifact, artifact >= 0.98, f"top-1 agreement {artifact}")
    same = replace(task, artifact=itself)
    return decided(0.0, 0.0, 0.0, precision="int8", task=task, task_itself=same, default=[missed])


@pytest.mark.parametrize(
    ("artifact", "itself", "verdict"),
    [
        (0.99, 0.99, Verdict.PASS),
        (0.90, 0.91, Verdict.AMBIGUOUS),  # whoever computes this network in int8 loses as much
        (0.90, 0.99, Verdict.FAIL),
        (0.90, 1.0, Verdict.FAIL),
    ],
)
def test_a_task_missed_in_int8_is_excused_only_where_pytorch_in_int8_misses_it_too(
    artifact: float, itself: float, verdict: Verdict
) -> None:
    found = coded(artifact, itself)
    assert found.verdict is verdict, found.sentence
    assert ("that is int8 itself" in found.sentence) is (verdict is Verdict.AMBIGUOUS)


def test_a_form_that_the_runtime_makes_of_it_and_that_computes_something_else_fails_whatever_agrees() -> None:
    fault = "as the runtime opens it here, it differs"
    for artifact in (0.0, 0.5):
        report = decided(artifact, artifact, 0.5, opened=fault)
        assert (report.verdict, report.sentence) == (Verdict.FAIL, fault)
    assert decided(0.0, 0.0, 0.5, opened=None).verdict is Verdict.PASS
    # A block at fault is the nearer cause.
    assert "layer1" in decided(0.5, 0.5, 0.5, checks(block=False), opened=fault).sentence
