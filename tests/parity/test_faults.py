"""Ten broken exports: each is caught, located at its block and unit, and narrowed to the operator; benign
differences are not failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scconv_deploy.config import Budgets, Precision
from scconv_deploy.parity import gates
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.verdicts import Verdict
from tests.parity import faults
from tests.parity.faults import FAULTS, Fault
from tests.parity.nets import BLOCKS, copied, ready, verified

NAMES = [f"{fault.__name__}-{path}" for fault, path, *_ in FAULTS]


@pytest.fixture(autouse=True)
def fewer_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second less per block; a rate of 2 % needs no million gates."""
    monkeypatch.setattr(gates, "GATES", 2**16)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
@pytest.mark.parametrize(("fault", "path", "unit", "operator"), FAULTS, ids=NAMES)
def test_a_fault_is_caught_and_located(
    fault: Fault, path: str, unit: str, operator: str, precision: Precision, tmp_path: Path
) -> None:
    made = ready(precision)
    model = copied(made.graph)
    fault(model, path)
    report = verified(made, model, tmp_path, bisect=True)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergent_block == path
    assert f"first at {path}.{unit}:" in report.sentence
    broken = next(p for p in report.pieces if p.piece == path)
    assert [u.unit for u in broken.units if u.verdict is Verdict.FAIL] == [unit]
    assert broken.operator is not None
    assert operator in broken.operator
    assert broken.operator.startswith(f"{path}.{unit.lower()}")
    others = [p for p in report.pieces if p.piece in BLOCKS and p.piece != path]
    assert all(p.verdict is Verdict.PASS for p in others)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_the_good_export_passes(precision: Precision, tmp_path: Path) -> None:
    made = ready(precision)
    report = verified(made, made.graph.model, tmp_path, bisect=True)
    assert report.verdict is Verdict.PASS, report.sentence
    assert report.precision == precision.value
    checked = {p.piece: p for p in report.pieces if p.piece in BLOCKS}
    assert set(checked) == set(BLOCKS)
    for piece in checked.values():
        assert [u.unit for u in piece.units] == ["SRU", "CRU"]
        assert piece.operator is None
        assert piece.gate is not None
        assert piece.gate.gates >= 2**16
        assert piece.gate.flips <= 2
        assert sum(b.gates for b in piece.gate.histogram) == piece.gate.gates
        assert piece.gate.pytorch_flips is not None
    assert all(b.kept for b in report.budgets)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_pytorch_in_half_flips_what_the_export_does_not(precision: Precision, tmp_path: Path) -> None:
    made = ready(precision)
    report = verified(made, made.graph.model, tmp_path)
    for piece in report.pieces:
        if piece.gate is not None:
            assert piece.gate.pytorch_flips is not None
            assert piece.gate.pytorch_flips > 20 * max(1, piece.gate.flips)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_one_unit_in_the_last_place_is_no_fault(precision: Precision, tmp_path: Path) -> None:
    made = ready(precision)
    model = copied(made.graph)
    faults.one_ulp(model)
    assert model.SerializeToString() != made.graph.model.SerializeToString()
    report = verified(made, model, tmp_path)
    assert report.verdict is not Verdict.FAIL, report.sentence
    assert all(p.verdict is Verdict.PASS for p in report.pieces)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_flips_at_the_threshold_itself_are_no_fault(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every gate decides at ``s > tiny`` for ``s > 0``: a few within rounding of the threshold flip."""
    monkeypatch.setattr(gates, "GATES", 2**20)
    made = ready(precision)
    for share, benign in ((2.4e-7, True), (1e-4, False)):
        model = copied(made.graph)
        faults.shifted_threshold(model, share)
        report = verified(made, model, tmp_path)
        counted = [p.gate for p in report.pieces if p.gate is not None]
        if benign:
            assert report.verdict is Verdict.PASS, report.sentence
            assert 0 < sum(g.flips for g in counted) < 30
            assert all(g.flips_outside_band == 0 for g in counted)
        else:
            assert report.verdict is Verdict.FAIL
            assert "first at hard.0.SRU" in report.sentence


def test_a_gate_in_half_is_told_from_a_broken_graph(tmp_path: Path) -> None:
    made = ready(Precision.FP32)
    model = copied(made.graph)
    faults.half_gate(model, "hard.0")
    report = verified(made, model, tmp_path)
    piece = next(p for p in report.pieces if p.piece == "hard.0")
    assert "computed in half precision" in report.sentence
    assert piece.gate is not None
    assert piece.gate.flip_rate > 1e-3
    assert "float16" in piece.gate.arithmetic


def test_the_sign_form_in_half_stays_within_its_band(tmp_path: Path) -> None:
    """All-half gates that were asked for: flips near the threshold, none beyond."""
    made = ready(Precision.FP16, style=GraphStyle(gate_in_half=True))
    report = verified(made, made.graph.model, tmp_path)
    counted = [p.gate for p in report.pieces if p.gate is not None]
    assert sum(g.flips for g in counted) > 0
    assert all(g.flips_outside_band == 0 for g in counted)
    assert report.verdict is not Verdict.FAIL, report.sentence
    strict = verified(made, made.graph.model, tmp_path, budgets=Budgets(max_flip_rate=0.0))
    assert strict.verdict is Verdict.FAIL


def test_overflow_is_the_types_own(tmp_path: Path) -> None:
    made = ready(Precision.FP16, gain=1e5)
    report = verified(made, made.graph.model, tmp_path)
    assert report.verdict is Verdict.FAIL
    assert "fp16 itself" in report.sentence
    assert "bf16" in report.sentence


def test_a_budget_of_the_users_fails_by_name(tmp_path: Path) -> None:
    made = ready(Precision.FP16)
    report = verified(made, made.graph.model, tmp_path, budgets=Budgets(atol={"": 1e-7}))
    assert report.verdict is Verdict.FAIL
    assert "budget 'end to end, output" in report.sentence
    loose = verified(made, made.graph.model, tmp_path, budgets=Budgets(atol={"": 100.0}))
    assert loose.verdict is Verdict.PASS


def test_top1_on_real_samples_is_reported(tmp_path: Path) -> None:
    made = ready(Precision.FP16)
    report = verified(made, made.graph.model, tmp_path, real=True)
    assert report.task is not None
    assert report.task.name == "top-1 agreement"
    assert report.task.samples == 8
    assert report.pytorch_same_precision
