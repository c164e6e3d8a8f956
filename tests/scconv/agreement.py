"""Two modules and inputs -> their largest difference in float64; every twin test of this folder uses it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def worst_error(
    reference: Callable[[Tensor], Tensor], candidate: Callable[[Tensor], Tensor], inputs: Iterable[Tensor]
) -> float:
    """Largest absolute difference over all inputs, relative to the largest reference value (at least 1).

    A different shape, or a value that is not finite where the reference's is, counts as infinitely wrong.
    """
    worst = 0.0
    with torch.no_grad():
        for x in inputs:
            expected, found = reference(x).double(), candidate(x).double()
            if expected.shape != found.shape:
                return math.inf
            difference = (expected - found).abs().max().item() / max(1.0, expected.abs().max().item())
            if not math.isfinite(difference):
                return math.inf
            worst = max(worst, difference)
    return worst
