"""Two tensors, sample by sample: the largest error of each against its own limit.

A block is compared hundreds of times in one verification, and only its largest error decides: the quantiles
that :mod:`scconv_deploy.metrics` reports of whole outputs took a tenth of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scconv_deploy.verdicts import Tolerance


@dataclass(frozen=True, slots=True)
class Samples:
    """``errors`` and ``limits``, one for each sample; an error is infinite where a value is not finite."""

    errors: tuple[float, ...]
    limits: tuple[float, ...]

    @property
    def passed(self) -> tuple[bool, ...]:
        """Which samples keep their limit."""
        return tuple(e <= limit for e, limit in zip(self.errors, self.limits, strict=True))

    @property
    def worst(self) -> tuple[float, float]:
        """Error and limit of the sample that comes nearest to its limit, or passes it by most."""
        pairs = zip(self.errors, self.limits, strict=True)
        return max(pairs, key=lambda p: p[0] / p[1] if p[1] else p[0])


def compare_samples(want: Tensor, got: Tensor, tolerance: Tolerance, slack: Tensor | None = None) -> Samples:
    """Compare (N, ...) with (N, ...) in float64; ``slack`` (N) is added to the samples' limits.

    NaN or infinity on either side is an infinite error; so is any difference of shape, for all samples.

    Raises:
        ValueError: the tolerance is not one of the largest error, or there is nothing to compare.
    """
    if tolerance.metric != "max_abs":
        raise ValueError(f"samples are compared by their largest error, not by {tolerance.metric}")
    if want.ndim == 0 or want.numel() == 0:
        raise ValueError("there are no samples to compare")
    if want.shape != got.shape:
        return Samples((float("inf"),) * len(want), (0.0,) * len(want))
    wide = want.double().flatten(1) if want.ndim > 1 else want.double().view(-1, 1)
    error = (got.double().reshape(wide.shape) - wide).abs().nan_to_num_(nan=float("inf"), posinf=float("inf"))
    scale = wide.abs().nan_to_num_(nan=0.0, posinf=0.0)
    limits = tolerance.atol + tolerance.rtol * scale.amax(dim=1)
    if slack is not None:
        limits = limits + slack
    return Samples(tuple(error.amax(dim=1).tolist()), tuple(limits.tolist()))


def not_finite(want: Tensor, got: Tensor) -> str | None:
    """On which side NaN or infinity stands, as a sentence; None where all is finite."""
    if not bool(torch.isfinite(want).all()):
        return "the truth itself holds NaN or infinity"
    return None if bool(torch.isfinite(got).all()) else "the result holds NaN or infinity"
