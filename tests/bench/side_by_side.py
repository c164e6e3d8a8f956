"""Bundles in one folder -> one report of scconv-bench over several settings, and the ratios to any of them.

The report keeps every timed call, so that one interleaved run gives ratios to more than one yardstick, each with
its 95 % bootstrap interval over rounds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scconv_deploy.artifacts import Json
from scconv_deploy.bench.rounds import Samples
from scconv_deploy.bench.statistics import ratio
from scconv_deploy.bench.stopwatch import WarmUp
from scconv_deploy.bench_config import BenchConfig
from scconv_deploy.benchmarking import run_benchmark
from scconv_deploy.config import ShapeRange
from scconv_deploy.measurements import BenchReport, Estimate, Measurement
from scconv_deploy.report.terminal import Terminal

Setting = tuple[int, int]
"""Batch and threads."""

SEED = 0
UNKNOWN = WarmUp(0, 0.0, settled=True)
"""Of samples whose warm-up is told elsewhere."""


def compare(
    folder: Path,
    names: Sequence[str],
    settings: Sequence[Setting],
    shapes: tuple[ShapeRange, ...],
    duration_s: float,
) -> BenchReport:
    """Measure ``folder/name`` side by side in every setting, the first being the yardstick; every call is kept.

    Results name no machine's folders: the bundles are named as they are called in ``folder``.
    """
    reports = []
    with contextlib.chdir(folder), Terminal() as listener:
        for batch, threads in settings:
            config = BenchConfig(
                (batch,),
                (threads,),
                duration_s=duration_s,
                iterations=10,
                shapes=shapes,
                yardstick=names[0],
                raw=True,
                explain=False,
                seed=SEED,
            )
            reports.append(run_benchmark(tuple(names), config, listener))
    return joined(reports)


def joined(reports: Sequence[BenchReport]) -> BenchReport:
    """Reports of one machine and configuration, apart from their settings, as one."""
    first = reports[0]
    return replace(
        first,
        config=replace(
            first.config,
            batches=tuple(dict.fromkeys(b for r in reports for b in r.config.batches)),
            threads=tuple(dict.fromkeys(t for r in reports for t in r.config.threads)),
        ),
        measurements=tuple(m for r in reports for m in r.measurements),
        conditions=tuple(c for r in reports for c in r.conditions),
        not_measured=tuple(dict.fromkeys(n for r in reports for n in r.not_measured)),
    )


def results(report: BenchReport, bases: Sequence[str]) -> dict[str, Json]:
    """``"batch 1, threads 2"`` -> name -> milliseconds and the ratios to each of ``bases``.

    Raises:
        LookupError: a base was not measured in a setting, or calls were not kept.
    """
    found: dict[str, Json] = {}
    for condition in report.conditions:
        mine = {
            m.name: m
            for m in report.measurements
            if (m.batch, m.threads) == (condition.batch, condition.threads)
        }
        rows: dict[str, Json] = {
            name: _figures(m, [mine[base] for base in bases]) for name, m in mine.items()
        }
        rows["warnings"] = list(condition.noise.warnings)
        found[f"batch {condition.batch}, threads {condition.threads}"] = rows
    return found


def against(one: Measurement, base: Measurement) -> Estimate:
    """Time of ``one`` over time of ``base``, round by round of the same interleaved run."""
    return ratio(_samples(one), _samples(base), SEED)


def _figures(one: Measurement, bases: Sequence[Measurement]) -> dict[str, Json]:
    figures: dict[str, Json] = {
        "median_ms": round(one.median_ms, 4),
        "rounds": one.rounds,
        "calls": one.calls,
    }
    for base in bases:
        estimate = against(one, base)
        figures[f"against {base.name}"] = [round(v, 4) for v in (estimate.value, estimate.low, estimate.high)]
    return figures


def _samples(one: Measurement) -> Samples:
    if one.samples_ms is None:
        raise LookupError(f"the calls of {one.name} were not kept")
    return Samples(one.name, tuple(np.array(r) * 1e6 for r in one.samples_ms), UNKNOWN)
