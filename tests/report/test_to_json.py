from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest

from scconv_deploy.artifacts import Json
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import InputError
from scconv_deploy.report.to_json import dumps, number, parity_from_json, to_json
from scconv_deploy.verdicts import ParityReport, Verdict
from tests.report.example import comparison, metrics, parity
from tests.report.half_example import half_parity


def test_every_kind_of_value_becomes_json() -> None:
    config = ExportConfig("onnx", out=Path("a/b"), trust=("x",))
    data = to_json(config)
    assert isinstance(data, dict)
    assert data["out"] == str(Path("a/b"))
    assert data["precision"] == "fp32"
    assert data["trust"] == ["x"]
    assert to_json({1: (True, None), Verdict.FAIL: {"b", "a"}}) == {"1": [True, None], "FAIL": ["a", "b"]}


def test_text_is_strict_json_even_with_nan_and_infinities() -> None:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no strict JSON")

    text = dumps((math.nan, math.inf, -math.inf, 1.5))
    assert json.loads(text, parse_constant=refuse) == ["nan", "inf", "-inf", 1.5]


def test_what_has_no_json_form_is_refused_by_type() -> None:
    with pytest.raises(TypeError, match=r"builtins\.object"):
        to_json(object())
    with pytest.raises(TypeError, match="EnumType"):
        to_json(Verdict)


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_a_parity_report_survives_the_round_trip(verdict: Verdict) -> None:
    report = replace(parity(verdict), against_float64=(comparison("truth"),))
    assert parity_from_json(json.loads(dumps(report))) == report


def test_a_report_with_nan_survives_the_round_trip() -> None:
    row = replace(comparison("nan"), metrics=replace(metrics(math.nan, finite=False), top1_agreement=None))
    back = parity_from_json(json.loads(dumps(replace(parity(), comparisons=(row,)))))
    assert math.isnan(back.comparisons[0].metrics.max_abs)
    assert back.comparisons[0].metrics.top1_agreement is None


@pytest.mark.parametrize("key", ["verdict", "tolerance", "comparisons", "notes"])
def test_a_damaged_report_is_refused(key: str) -> None:
    data = to_json(parity())
    assert isinstance(data, dict)
    for damage in ({k: v for k, v in data.items() if k != key}, {**data, key: 7}):
        with pytest.raises(InputError, match="not a parity report"):
            parity_from_json(damage)


def test_number_takes_numbers_and_their_names_only() -> None:
    assert number(2) == 2.0
    assert math.isinf(number("-inf"))
    values: list[Json] = [True, None, "2", [1]]
    for wrong in values:
        with pytest.raises(InputError, match="must hold a number"):
            number(wrong)


@pytest.mark.parametrize("broken", [None, 1])
def test_a_gate_aware_report_survives_the_round_trip(broken: int | None) -> None:
    report = half_parity(("a", "b", "c"), broken)
    assert parity_from_json(json.loads(dumps(report))) == report
    fewer = replace(report.pieces[0], operator="Greater_7", units=report.pieces[0].units[:1])
    other = replace(report, pieces=(fewer, *report.pieces[1:]))
    assert parity_from_json(json.loads(dumps(other))) == other != report


def test_every_field_of_the_report_travels() -> None:
    """A field that is added to the vocabulary and forgotten here would come back as its default."""
    report = half_parity(("a",), 0)
    for field in fields(ParityReport):
        assert getattr(report, field.name) not in ((), None), f"the example leaves {field.name} out"
    back = parity_from_json(json.loads(dumps(report)))
    for field in fields(ParityReport):
        assert getattr(back, field.name) == getattr(report, field.name), field.name


def test_a_report_from_before_gates_were_watched_is_read() -> None:
    data = json.loads(dumps(half_parity(("a", "b"))))
    for key in ("precision", "budgets", "task", "pytorch_same_precision"):
        del data[key]
    for piece in data["pieces"]:
        for key in ("gate", "units", "operator"):
            del piece[key]
    report = parity_from_json(data)
    assert report.precision == "fp32"
    assert [p.piece for p in report.pieces] == ["a", "b", "the layers after the blocks"]
    assert all(p.gate is None and p.units == () for p in report.pieces)
    del data["pieces"]
    assert parity_from_json(data).pieces == ()


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("gates", "many"), ("flips", "inf"), ("histogram", 3), ("band", True), ("arithmetic", None)],
)
def test_a_damaged_gate_check_is_refused(key: str, wrong: Json) -> None:
    data = json.loads(dumps(half_parity(("a",))))
    data["pieces"][0]["gate"][key] = wrong
    with pytest.raises(InputError, match="not a parity report"):
        parity_from_json(data)
    del data["pieces"][0]["gate"][key]
    with pytest.raises(InputError, match="not a parity report"):
        parity_from_json(data)


def test_a_budget_that_is_kept_by_a_word_is_refused() -> None:
    data = json.loads(dumps(half_parity(("a",))))
    data["budgets"][0]["kept"] = "no"
    with pytest.raises(InputError, match="not a parity report"):
        parity_from_json(data)
