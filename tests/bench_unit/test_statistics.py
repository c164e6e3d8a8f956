"""Quantiles and ratios of hand-made durations, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scconv_deploy.artifacts import Timing
from scconv_deploy.bench.rounds import Samples
from scconv_deploy.bench.statistics import ratio_interval, summarise

MS = 1_000_000


def samples(name: str, *rounds: list[float]) -> Samples:
    return Samples(name, tuple(np.array([r * MS for r in one], dtype=np.int64) for one in rounds))


def summary(*taken: Samples, yardstick: str = "base") -> dict[str, Timing]:
    return {t.name: t for t in summarise(taken, yardstick, batch=4, threads=2, seed=0)}


def test_every_call_counts_in_the_quantiles() -> None:
    found = summary(samples("base", [1, 2], [3, 94]))["base"]
    assert (found.batch, found.threads, found.rounds) == (4, 2, 2)
    assert (found.min_ms, found.median_ms, found.mean_ms) == (1.0, 2.5, 25.0)
    assert found.p90_ms == pytest.approx(3 + 0.7 * 91)
    assert found.p99_ms == pytest.approx(3 + 0.97 * 91)


def test_the_ratio_compares_neighbours_in_time() -> None:
    # The machine slows down tenfold; each round's ratio is one half all the same.
    base = samples("base", [2, 2, 100], [20, 20, 20], [200, 200, 200])
    fast = samples("fast", [1, 1, 1], [10, 10, 10], [100, 100, 900])
    found = summary(base, fast)
    assert (found["fast"].ratio, found["fast"].ratio_low, found["fast"].ratio_high) == (0.5, 0.5, 0.5)
    assert found["base"].ratio == 1.0
    # The other way round it is its inverse.
    assert summary(base, fast, yardstick="fast")["base"].ratio == 2.0


def test_the_interval_holds_the_median_and_widens_with_noise() -> None:
    calm, wild = np.linspace(0.79, 0.81, 21), np.linspace(0.5, 1.1, 21)
    middle, low, high = ratio_interval(calm, seed=1)
    assert low < middle < high
    assert middle == pytest.approx(0.8)
    _, wild_low, wild_high = ratio_interval(wild, seed=1)
    assert wild_high - wild_low > 10 * (high - low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for seed in range(200):
        _, low, high = ratio_interval(generator.normal(1.0, 0.1, 20), seed)
        held += low <= 1.0 <= high
    # 190 of 200 would be exact. Far fewer is a false promise; all of them, an interval that says nothing.
    assert 178 <= held <= 198


def test_the_bootstrap_is_seeded() -> None:
    noise = np.random.default_rng(3).normal(0.8, 0.05, 9)
    assert ratio_interval(noise, seed=1) == ratio_interval(noise, seed=1)
    assert len({ratio_interval(noise, seed)[1:] for seed in range(8)}) > 1


def test_a_clock_that_reads_nothing_leaves_the_ratio_finite() -> None:
    found = summary(samples("base", [0, 0]), samples("slow", [1, 1]))
    assert found["slow"].ratio == MS
    assert all(math.isfinite(t.ratio_high) for t in found.values())


def test_a_yardstick_that_was_not_measured_is_no_result() -> None:
    with pytest.raises(StopIteration):
        summary(samples("fast", [1]))
