"""Texts of ``scconv-bench``'s own options -> configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scconv_deploy import benchmarking
from scconv_deploy.bench.baseline import against, read_baseline
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.cli import run
from scconv_deploy.cli.bench import parse_backends, parse_percentiles, parse_share
from scconv_deploy.errors import InputError
from scconv_deploy.measurements import BenchReport
from tests.bench_unit.reports import pair, report


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("12.5 %", 0.125), ("0", 0.0)])
def test_a_share_is_a_percentage_or_a_fraction(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "-5%", "five", "", "5%%"])
def test_what_may_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write it like --fail-if-slower 5%"):
        parse_share(text)


def test_backends_and_percentiles() -> None:
    assert parse_backends(None) is None
    assert parse_backends("eager, ours,eager") == (BackendKind.EAGER, BackendKind.OURS)
    with pytest.raises(InputError, match="did you mean 'compile'"):
        parse_backends("compiled")
    assert parse_percentiles("99,90") == (50.0, 90.0, 99.0)
    assert parse_percentiles("99.9") == (50.0, 99.9)
    with pytest.raises(InputError, match="--percentile=90,95,99"):
        parse_percentiles("90;95")
    with pytest.raises(InputError, match="between 0 and 100"):
        BenchConfig(percentiles=parse_percentiles("100"))


def test_a_limit_needs_a_baseline() -> None:
    with pytest.raises(InputError, match="--baseline FILE"):
        BenchConfig(fail_if_slower=0.05)


class Stub:
    """Stands where the pipeline is; compares with the baseline as the pipeline does."""

    def __init__(self, found: BenchReport) -> None:
        self.found = found
        self.config: BenchConfig | None = None

    def __call__(self, subjects: object, config: BenchConfig, listener: object) -> BenchReport:
        self.config = config
        if config.baseline is None:
            return self.found
        stored = read_baseline(config.baseline)
        return against(stored, self.found, config.fail_if_slower)


def test_the_exit_code_tells_a_regression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, stored = tmp_path / "model.pt", tmp_path / "stored.json"
    model.write_bytes(b"never opened")
    monkeypatch.setattr(benchmarking, "run_benchmark", Stub(report(*pair())))
    assert run("bench", [str(model), "--json"]) == 0
    stored.write_text(capsys.readouterr().out, encoding="utf-8")

    slower = Stub(report(*pair(ratio=0.9)))
    monkeypatch.setattr(benchmarking, "run_benchmark", slower)
    options = [str(model), "--baseline", str(stored), "--json"]
    assert run("bench", [*options, "--fail-if-slower", "5%"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 1
    assert said["baseline"]["slower"] == [
        "ours at batch 8, 1 thread: ratio 0.800x -> 0.900x, 12.5% slower (limit 5.0%)"
    ]
    assert slower.config is not None
    assert slower.config.fail_if_slower == pytest.approx(0.05)
    # Without a limit, and with a generous one, the same run is fine.
    assert run("bench", options) == 0
    assert run("bench", [*options, "--fail-if-slower", "20%"]) == 0
