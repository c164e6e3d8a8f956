"""A stored report + this one -> what became slower, in sentences, and whether that is a failure.

What may be compared with what:

* Ratios to the yardstick compare on any machine, as long as the yardstick has the same name. They are the
  judgement: both sides of a ratio met the same machine in the same rounds.
* Medians in milliseconds compare on the same machine only (equal fingerprints), and count only where it was
  quiet both times: a neighbour's work is not a regression.

Slower means: the estimate grew by more than the limit *and* the two 95 % intervals do not meet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scconv_deploy.errors import InputError
from scconv_deploy.measurements import (
    SCHEMA_VERSION,
    BaselineCheck,
    BaselineReport,
    BenchReport,
    Estimate,
    Measurement,
)

RATIO = "ratio"
MEDIAN = "median"
Key = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class StoredMeasurement:
    """What a comparison needs of one measurement: its median and ratio, and to what the ratio refers."""

    median_ms: Estimate
    ratio: Estimate | None
    yardstick: str
    quiet: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A report read back: measurements by name, batch and threads."""

    file: str
    fingerprint: str
    cpu: str
    measurements: Mapping[Key, StoredMeasurement]


def read_baseline(path: Path) -> Stored:
    """Read a report that ``scconv-bench --json`` wrote.

    Raises:
        InputError: no such file, not such a report, or one of another schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the baseline '{path}' cannot be read as JSON: {error}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"the baseline '{path}' has schema {version}; this version compares schema {SCHEMA_VERSION}: write "
            "it anew with scconv-bench --json"
        )
    try:
        settings = {(c["batch"], c["threads"]): c for c in data["conditions"]}
        found = {
            (str(m["name"]), int(m["batch"]), int(m["threads"])): _stored(
                m, settings[(m["batch"], m["threads"])]
            )
            for m in data["measurements"]
        }
        machine = data["machine"]
        return Stored(str(path), str(machine["fingerprint"]), str(machine["cpu"]), found)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the baseline '{path}' is no report of scconv-bench: it lacks {error}") from error


def against(stored: Stored, report: BenchReport, limit: float | None) -> BenchReport:
    """The report with its comparison.

    Args:
        stored: the baseline.
        report: of this run.
        limit: a share, 0.05 for 5 %; None compares without failing.

    Raises:
        InputError: not one measurement is in both.
    """
    same = stored.fingerprint == report.machine.fingerprint
    checks: list[BaselineCheck] = []
    notes = [] if same else [_other_machine(stored, report)]
    disturbed = False
    for measurement in report.measurements:
        before = stored.measurements.get(_key(measurement))
        if before is None:
            notes.append(f"{_place(_key(measurement))} is not in the baseline")
            continue
        condition = report.condition(measurement)
        now = measurement.against_yardstick
        is_yardstick = measurement.name == condition.yardstick
        if before.yardstick != condition.yardstick:
            notes.append(
                f"{_place(_key(measurement))} has no common ratio: its yardstick was '{before.yardstick}' and is "
                f"'{condition.yardstick}'"
            )
        elif before.ratio is not None and now is not None and not is_yardstick:
            checks.append(_check(measurement, RATIO, before.ratio, now, limit))
        if same:
            quiet = before.quiet and not condition.noise.warnings
            median = Estimate(measurement.median_ms, *measurement.median_interval_ms)
            check = _check(measurement, MEDIAN, before.median_ms, median, limit)
            if check.is_slower and not quiet:
                disturbed = True
                check = replace(check, is_slower=False)
            checks.append(check)
    missing = stored.measurements.keys() - {_key(m) for m in report.measurements}
    notes += [f"{_place(key)} is in the baseline and was not measured now" for key in sorted(missing)]
    if disturbed:
        notes.append("medians that grew do not count: the machine was busy in one of the two runs")
    if not checks:
        raise InputError(
            f"nothing measured now can be compared with the baseline '{stored.file}'; it holds "
            f"{', '.join(sorted({key[0] for key in stored.measurements})) or 'nothing'}"
        )
    slower = tuple(c.sentence for c in checks if c.is_slower)
    result = BaselineReport(stored.file, same, limit, tuple(checks), slower, tuple(notes))
    return replace(report, baseline=result)


def _check(
    measurement: Measurement, quantity: str, before: Estimate, now: Estimate, limit: float | None
) -> BaselineCheck:
    change = now.value / before.value - 1
    is_slower = limit is not None and change > limit and now.low > before.high
    unit = "x" if quantity == RATIO else " ms"
    words = "slower" if change > 0 else "faster"
    text = (
        f"{_place(_key(measurement))}: {quantity} {before.value:.3f}{unit} -> {now.value:.3f}{unit}, "
        f"{abs(change):.1%} {words}"
    )
    return BaselineCheck(
        measurement.name,
        measurement.batch,
        measurement.threads,
        quantity,
        before,
        now,
        change,
        is_slower,
        text + (f" (limit {limit:.1%})" if is_slower else ""),
    )


def _stored(data: Mapping[str, Any], condition: Mapping[str, Any]) -> StoredMeasurement:
    ratio = data["against_yardstick"]
    return StoredMeasurement(
        median_ms=_positive(float(data["median_ms"]), data["median_interval_ms"]),
        ratio=None if ratio is None else _positive(float(ratio["value"]), (ratio["low"], ratio["high"])),
        yardstick=str(condition["yardstick"]),
        quiet=not condition["noise"]["warnings"],
    )


def _positive(value: float, interval: Sequence[float]) -> Estimate:
    low, high = (float(v) for v in interval)
    if not 0 < low <= value <= high:
        raise ValueError(f"a positive value inside its interval: {low} to {high} around {value}")
    return Estimate(value, low, high)


def _other_machine(stored: Stored, report: BenchReport) -> str:
    return (
        f"the baseline is of another machine ({stored.cpu}, fingerprint {stored.fingerprint}; this is "
        f"{report.machine.cpu}, {report.machine.fingerprint}): only ratios are compared"
    )


def _key(measurement: Measurement) -> Key:
    return measurement.name, measurement.batch, measurement.threads


def _place(key: Key) -> str:
    name, batch, threads = key
    return f"{name} at batch {batch}, {threads} thread{'s' if threads > 1 else ''}"
