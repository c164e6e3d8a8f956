"""Durations of every call -> quantiles, spread, and ratios to another backend with their interval.

A ratio is the median over rounds of (this backend's median in the round / the other's median in the same
round). Its 95 % interval is a percentile bootstrap over rounds: calls inside a burst are not independent,
rounds nearly are. Nothing is clipped: every timed call counts in every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scconv_deploy.bench.rounds import Samples
from scconv_deploy.measurements import Estimate

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap distribution: a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one backend, milliseconds per call; ``percentiles_ms`` by name ("99", "99.9")."""

    rounds: int
    calls: int
    median_ms: float
    median_interval_ms: tuple[float, float]
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    percentiles_ms: dict[str, float]


def summarise(samples: Samples, percentiles: Sequence[float], seed: int) -> Summary:
    """All calls in one pool; the median's interval comes from resampling rounds.

    Args:
        samples: of one backend.
        percentiles: between 0 and 100.
        seed: of the bootstrap.
    """
    ms = samples.calls / 1e6
    low, high = median_interval(_round_medians(samples) / 1e6, seed)
    median = float(np.median(ms))
    return Summary(
        rounds=len(samples.rounds),
        calls=len(ms),
        median_ms=median,
        # The pooled median need not lie between resampled medians of rounds, where rounds differ much.
        median_interval_ms=(min(low, median), max(high, median)),
        mean_ms=float(ms.mean()),
        std_ms=float(ms.std(ddof=1)) if len(ms) > 1 else 0.0,
        min_ms=float(ms.min()),
        max_ms=float(ms.max()),
        percentiles_ms={f"{p:g}": float(np.percentile(ms, p)) for p in sorted(percentiles)},
    )


def ratio(samples: Samples, base: Samples, seed: int) -> Estimate:
    """Time of ``samples`` over time of ``base``, round by round of the same interleaved run."""
    ratios = _round_medians(samples) / _round_medians(base)
    low, high = median_interval(ratios, seed)
    return Estimate(float(np.median(ratios)), low, high)


def median_interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % interval of the median of ``values`` (one of each round) by percentile bootstrap."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[drawn], axis=1), INTERVAL)
    return float(low), float(high)


def _round_medians(samples: Samples) -> np.ndarray:
    # A clock too coarse for the call reads 0; one nanosecond keeps the ratio finite and visibly absurd.
    return np.maximum([np.median(r) for r in samples.rounds], 1.0)
