"""The table of a benchmark: what it must show, in 100 columns."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from scconv_deploy.bench.baseline import Stored, StoredMeasurement, against
from scconv_deploy.measurements import BenchReport, Estimate, GpuTimes
from scconv_deploy.report.benchmark import WIDTH, ms, show_benchmark
from tests.bench_unit.reports import BUSY, measurement, pair, report


def shown(found: BenchReport) -> str:
    out = Console(
        file=io.StringIO(), width=WIDTH, force_terminal=True, color_system=None, legacy_windows=False
    )
    show_benchmark(out, found)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_a_report_fits_into_100_columns_with_all_its_figures() -> None:
    wide = measurement("naive ONNX of a_rather_long_name.pt", 12345.678, 1.316, "naive")
    said = shown(report(*pair(median=41.237), wide))
    tables = [line for line in said.splitlines() if line.startswith(("plain", "ours", "naive"))]
    assert max(len(line) for line in tables) <= WIDTH
    for part in ("41.2", "45.4", "53.6", "82.5", "0.80 [0.79, 0.81]", "12346", "1.32 [1.30, 1.33]", "94.00"):
        assert part in said
    assert "…" not in said
    assert "yardstick plain twin" in said
    assert "fingerprint" in said
    assert "there is no C++ compiler" in said


def test_a_busy_machine_and_an_unsettled_warm_up_are_warnings() -> None:
    twin, ours = pair()
    said = shown(report(twin, replace(ours, settled=False), noise=BUSY))
    assert "warning: other processes took 40% of the machine" in said
    assert "warning: ours was still getting faster when its warm-up ended" in said
    assert "warning" not in shown(report(*pair()))


def test_device_times_have_a_table_of_their_own() -> None:
    gpu = GpuTimes(
        0.512, {"99": 0.6}, 0.041, 0.007, None, "it cannot be captured", (1980, 1980), None, ("power",)
    )
    twin, ours = pair()
    said = shown(report(twin, replace(ours, gpu=gpu)))
    for part in ("device ms", "0.512", "0.041", "power"):
        assert part in said
    assert "device ms" not in shown(report(*pair()))


def test_a_regression_is_shown_last_and_in_capitals() -> None:
    found = report(*pair(ratio=0.9))
    before = StoredMeasurement(Estimate(40, 39, 41), Estimate(0.8, 0.79, 0.81), "plain twin", True)
    stored = Stored("b.json", "other", "Other", {("ours", 8, 1): before})
    last = shown(against(stored, found, 0.05)).rstrip().splitlines()[-1]
    assert last == "SLOWER  ours at batch 8, 1 thread: ratio 0.800x -> 0.900x, 12.5% slower (limit 5.0%)"
    good = shown(against(stored, report(*pair()), 0.05)).rstrip().splitlines()[-1]
    assert good == "no measurement is slower than b.json by more than 5.0%"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0289, "0.029"), (2.164, "2.16"), (41.237, "41.2"), (412.37, "412"), (12345.6, "12346")],
)
def test_times_keep_three_digits(value: float, text: str) -> None:
    assert ms(value) == text
