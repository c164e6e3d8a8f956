"""What counts as slower, on which machine, and what cannot be compared at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scconv_deploy.bench.baseline import against, read_baseline
from scconv_deploy.errors import InputError
from scconv_deploy.measurements import BaselineReport, BenchReport, Conditions
from scconv_deploy.report.to_json import dumps
from tests.bench_unit.reports import BUSY, QUIET, measurement, pair, report


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "baseline.json"


def compared(before: BenchReport, now: BenchReport, file: Path, limit: float | None = 0.05) -> BaselineReport:
    file.write_text(dumps({"exit_code": 0, **json.loads(dumps(before))}), encoding="utf-8")
    found = against(read_baseline(file), now, limit).baseline
    assert found is not None
    return found


def test_the_same_again_is_not_slower(file: Path) -> None:
    found = compared(report(*pair()), report(*pair()), file)
    assert found.same_machine
    assert found.slower == found.notes == ()
    # The yardstick's own ratio is 1 by definition and is no check; its median is one.
    assert [(c.name, c.quantity) for c in found.checks] == [
        ("plain twin", "median"),
        ("ours", "ratio"),
        ("ours", "median"),
    ]


def test_slower_beyond_the_limit_and_the_intervals_is_said_with_numbers(file: Path) -> None:
    found = compared(report(*pair()), report(*pair(median=44.0, ratio=0.88)), file)
    assert found.slower == (
        "ours at batch 8, 1 thread: ratio 0.800x -> 0.880x, 10.0% slower (limit 5.0%)",
        "ours at batch 8, 1 thread: median 40.000 ms -> 44.000 ms, 10.0% slower (limit 5.0%)",
    )
    assert all(c.change == pytest.approx(0.1) for c in found.checks if c.name == "ours")


@pytest.mark.parametrize(
    ("ratio", "spread", "limit", "is_slower"),
    [
        (0.88, 0.01, 0.05, True),
        (0.83, 0.001, 0.05, False),  # within the limit
        (0.88, 0.08, 0.05, False),  # the intervals meet
        (0.88, 0.01, 0.20, False),
        (0.88, 0.01, None, False),
        (0.40, 0.01, 0.05, False),  # faster
    ],
)
def test_both_conditions_must_hold(
    ratio: float, spread: float, limit: float | None, is_slower: bool, file: Path
) -> None:
    before = report(*pair(spread=spread), cpu="another")
    found = compared(before, report(*pair(ratio=ratio, spread=spread)), file, limit)
    assert bool(found.slower) == is_slower


def test_another_machine_is_said_and_only_ratios_are_compared(file: Path) -> None:
    slow_machine = report(
        measurement("plain twin", 500.0, 1.0, "plain"), measurement("ours", 400.0, 0.8), cpu="Slow(R)"
    )
    found = compared(report(*pair()), slow_machine, file)
    assert not found.same_machine
    assert [(c.name, c.quantity) for c in found.checks] == [("ours", "ratio")]
    assert found.slower == ()
    assert "another machine (Some(R) Processor" in found.notes[0]
    assert "only ratios are compared" in found.notes[0]


@pytest.mark.parametrize(("before", "now"), [(QUIET, BUSY), (BUSY, QUIET)])
def test_on_a_busy_machine_medians_do_not_count_but_ratios_do(
    before: object, now: object, file: Path
) -> None:
    twin, ours = pair(median=80.0)
    slow = replace(twin, median_ms=100.0, median_interval_ms=(99.0, 101.0))
    found = compared(report(*pair(), noise=before), report(slow, ours, noise=now), file)  # type: ignore[arg-type]
    assert found.slower == ()
    assert "the machine was busy" in found.notes[-1]
    worse = compared(
        report(*pair(), noise=before),  # type: ignore[arg-type]
        report(*pair(median=80.0, ratio=1.6), noise=now),  # type: ignore[arg-type]
        file,
    )
    assert len(worse.slower) == 1


def test_everything_slower_alike_on_a_quiet_machine_counts(file: Path) -> None:
    # Ratios would not notice a runtime that became slower for all.
    twin, ours = pair(median=80.0)
    slow = replace(twin, median_ms=100.0, median_interval_ms=(99.0, 101.0))
    found = compared(report(*pair()), report(slow, ours), file)
    assert [s.split(":")[0] for s in found.slower] == [
        "plain twin at batch 8, 1 thread",
        "ours at batch 8, 1 thread",
    ]


def test_ratios_to_different_yardsticks_are_not_compared(file: Path) -> None:
    now = report(*pair(ratio=3.0))
    now = replace(now, conditions=(Conditions(8, 1, "ours", QUIET),))
    found = compared(report(*pair()), now, file)
    assert {c.quantity for c in found.checks} == {"median"}
    assert "its yardstick was 'plain twin' and is 'ours'" in found.notes[0]


def test_what_only_one_of_them_has_is_a_note(file: Path) -> None:
    extra = measurement("naive ONNX", 60.0, 1.2)
    assert compared(report(*pair(), extra), report(*pair()), file).notes == (
        "naive ONNX at batch 8, 1 thread is in the baseline and was not measured now",
    )
    assert compared(report(*pair()), report(*pair(), extra), file).notes == (
        "naive ONNX at batch 8, 1 thread is not in the baseline",
    )


def test_nothing_in_common_is_an_error(file: Path) -> None:
    with pytest.raises(InputError, match=r"nothing measured now can be compared .* plain twin"):
        compared(report(*pair()), report(measurement("other", 1.0, 1.0)), file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "has schema None"),
        ('{"schema_version": 7}', "has schema 7; this version compares schema 1"),
        ('{"schema_version": 1}', "lacks 'conditions'"),
        (
            '{"schema_version": 1, "conditions": [], "measurements": [{"name": "a"}]}',
            "no report of scconv-bench",
        ),
    ],
)
def test_a_file_that_is_no_report_is_one_sentence(text: str, words: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_baseline(file)


def test_a_zero_or_twisted_interval_is_refused(file: Path) -> None:
    data = json.loads(dumps(report(*pair())))
    data["measurements"][1]["median_ms"] = 0.0
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match="a positive value inside its interval"):
        read_baseline(file)
