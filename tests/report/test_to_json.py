from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from scconv_deploy.artifacts import Json
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import InputError
from scconv_deploy.report.to_json import dumps, number, parity_from_json, to_json
from scconv_deploy.verdicts import Verdict
from tests.report.example import comparison, metrics, parity


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
