"""Reports that keep every call -> ratios to any backend, in every setting; figures by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scconv_deploy.measurements import Measurement
from tests.bench.side_by_side import against, joined, results
from tests.bench_unit.reports import BUSY, measurement, report


def kept(name: str, *rounds: tuple[float, ...], batch: int = 8) -> Measurement:
    return replace(measurement(name, 1.0, 1.0), batch=batch, samples_ms=rounds)


FAST = kept("fast", (1.0, 1.0, 9.0), (10.0, 10.0, 10.0), (2.0, 2.0, 2.0))
SLOW = kept("slow", (4.0, 4.0, 4.0), (40.0, 40.0, 400.0), (8.0, 8.0, 8.0))


def test_the_ratio_is_that_of_neighbours_in_time_to_any_base() -> None:
    assert (against(FAST, SLOW).value, against(FAST, SLOW).low, against(FAST, SLOW).high) == (
        0.25,
        0.25,
        0.25,
    )
    assert against(SLOW, FAST).value == 4.0
    assert against(SLOW, SLOW).value == 1.0


def test_calls_that_were_not_kept_give_no_ratio() -> None:
    with pytest.raises(LookupError, match="the calls of bare were not kept"):
        against(measurement("bare", 1.0, 1.0), SLOW)


def test_every_setting_has_its_own_ratios() -> None:
    first = report(SLOW, FAST)
    other = [replace(m, batch=1) for m in (kept("slow", (3.0,)), kept("fast", (6.0,)))]
    second = report(*other)
    conditions = (replace(second.conditions[0], batch=1, noise=BUSY),)
    second = replace(second, config=replace(second.config, batches=(1,)), conditions=conditions)
    whole = joined([first, second])
    assert whole.config.batches == (8, 1)
    found = results(whole, ("slow", "fast"))
    large, small = found["batch 8, threads 1"], found["batch 1, threads 1"]
    assert isinstance(large, dict)
    assert isinstance(small, dict)
    assert large["fast"] == {
        "median_ms": 1.0,
        "rounds": 20,
        "calls": 200,
        "against slow": [0.25, 0.25, 0.25],
        "against fast": [1.0, 1.0, 1.0],
    }
    assert small["fast"] == {**large["fast"], "against slow": [2.0, 2.0, 2.0]}
    assert (large["warnings"], small["warnings"]) == ([], list(BUSY.warnings))


def test_a_base_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(LookupError, match="plain"):
        results(report(SLOW, FAST), ("plain",))
