"""Durations of every call -> :class:`Timing`: quantiles, and the ratio to the yardstick with its interval.

The ratio is the median over rounds of (this backend's median in the round / the yardstick's median in the
same round). Its 95 % interval is a percentile bootstrap over rounds: calls inside a burst are not
independent, rounds nearly are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scconv_deploy.artifacts import Timing
from scconv_deploy.bench.rounds import Samples

RESAMPLES = 2000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap distribution: a 95 % interval."""


def summarise(
    samples: Sequence[Samples], yardstick: str, *, batch: int, threads: int, seed: int
) -> tuple[Timing, ...]:
    """One Timing per backend.

    Args:
        samples: all backends of one interleaved run.
        yardstick: name of the backend the ratios refer to; it is one of ``samples``.
        batch: samples per call; recorded.
        threads: threads per backend; recorded.
        seed: of the bootstrap.
    """
    base = _round_medians(next(s for s in samples if s.name == yardstick))
    return tuple(_timing(s, base, batch, threads, seed) for s in samples)


def ratio_interval(ratios: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Median of the rounds' ratios, and the bootstrap interval of that median."""
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), INTERVAL)
    return float(np.median(ratios)), float(low), float(high)


def _timing(samples: Samples, base: np.ndarray, batch: int, threads: int, seed: int) -> Timing:
    ms = samples.calls / 1e6
    ratio, low, high = ratio_interval(_round_medians(samples) / base, seed)
    return Timing(
        name=samples.name,
        batch=batch,
        threads=threads,
        rounds=len(samples.rounds),
        median_ms=float(np.median(ms)),
        mean_ms=float(ms.mean()),
        p90_ms=float(np.percentile(ms, 90)),
        p99_ms=float(np.percentile(ms, 99)),
        min_ms=float(ms.min()),
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
    )


def _round_medians(samples: Samples) -> np.ndarray:
    # A clock too coarse for the call reads 0; one nanosecond keeps the ratio finite and visibly absurd.
    return np.maximum([np.median(r) for r in samples.rounds], 1.0)
