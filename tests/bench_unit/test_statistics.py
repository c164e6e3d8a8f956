"""Quantiles and ratios of hand-made durations, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scconv_deploy.bench.rounds import Samples
from scconv_deploy.bench.statistics import ratio, summarise
from scconv_deploy.bench.stopwatch import WarmUp
from scconv_deploy.measurements import Estimate

MS = 1_000_000


def samples(*rounds: list[float]) -> Samples:
    made = tuple(np.array([r * MS for r in one], dtype=np.int64) for one in rounds)
    return Samples("a", made, WarmUp(1, MS, True))


def of_ratios(values: np.ndarray, seed: int) -> Estimate:
    """Rounds whose ratios to a steady 1 s backend are ``values``."""
    return ratio(samples(*([1000 * v] for v in values)), samples(*([1000.0] for _ in values)), seed)


def test_every_call_counts_in_the_figures() -> None:
    found = summarise(samples([1, 2], [3, 94]), (99.9, 90, 50), seed=0)
    assert (found.rounds, found.calls) == (2, 4)
    assert (found.min_ms, found.max_ms, found.median_ms, found.mean_ms) == (1.0, 94.0, 2.5, 25.0)
    assert found.percentiles_ms == {
        "50": 2.5,
        "90": pytest.approx(3 + 0.7 * 91),
        "99.9": pytest.approx(3 + 0.997 * 91),
    }
    assert found.std_ms == pytest.approx(math.sqrt((24**2 + 23**2 + 22**2 + 69**2) / 3))
    low, high = found.median_interval_ms
    assert low <= found.median_ms <= high


def test_the_ratio_compares_neighbours_in_time() -> None:
    # The machine slows down tenfold; each round's ratio is one half all the same.
    base = samples([2, 2, 100], [20, 20, 20], [200, 200, 200])
    fast = samples([1, 1, 1], [10, 10, 10], [100, 100, 900])
    assert ratio(fast, base, 0) == Estimate(0.5, 0.5, 0.5)
    assert ratio(base, base, 0) == Estimate(1.0, 1.0, 1.0)
    assert ratio(base, fast, 0).value == 2.0


def test_the_interval_holds_the_median_and_widens_with_noise() -> None:
    calm, wild = of_ratios(np.linspace(0.79, 0.81, 21), 1), of_ratios(np.linspace(0.5, 1.1, 21), 1)
    assert calm.low < calm.value < calm.high
    assert calm.value == pytest.approx(0.8)
    assert wild.high - wild.low > 10 * (calm.high - calm.low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for seed in range(200):
        found = of_ratios(generator.normal(1.0, 0.1, 20), seed)
        held += found.low <= 1.0 <= found.high
    # 190 of 200 would be exact. Far fewer is a false promise; all of them, an interval that says nothing.
    assert 178 <= held <= 198


def test_the_bootstrap_is_seeded() -> None:
    noise = np.random.default_rng(3).normal(0.8, 0.05, 9)
    assert of_ratios(noise, 1) == of_ratios(noise, 1)
    assert len({(e.low, e.high) for e in (of_ratios(noise, seed) for seed in range(8))}) > 1


def test_a_clock_that_reads_nothing_leaves_the_ratio_finite() -> None:
    assert ratio(samples([1, 1]), samples([0, 0]), 0).value == MS
