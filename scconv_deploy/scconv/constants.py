"""Stored parameters -> the constants a deploy module computes with: gamma weights and the gate's logit.

The gamma weight is computed once, in the stored dtype and with the source's own order of summation
(Python's builtin ``sum`` over the parameter, left to right), so that a sum that nearly cancels comes out as
it does in the user's module. It is never "repaired": a negative or tiny sum is legal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from scconv_deploy.errors import InputError
from scconv_deploy.scconv.spec import Comparison, GammaWeight, SRUSpec


def gamma_weight(
    gamma: torch.Tensor, spec: SRUSpec, weights: Mapping[str, torch.Tensor] | None = None
) -> torch.Tensor:
    """``w`` of shape (C,) in gamma's dtype, from ``gamma`` of shape (C,) (paper equation 2).

    A zero denominator gives inf or NaN, exactly as the source does; ``lower`` reports it. Where the
    specification says STORED, ``w`` is ``weights["weight"]`` (any shape with C elements).

    Raises:
        InputError: ``w`` should be stored and is not among ``weights``.
    """
    if spec.gamma_weight is GammaWeight.STORED:
        if weights is None or "weight" not in weights:
            raise InputError("this SRU's gamma weight is stored; give it as 'weight'")
        return weights["weight"].detach().reshape(-1).to(gamma.dtype)
    if spec.gamma_weight is GammaWeight.NONE:
        return torch.ones_like(gamma)
    if spec.gamma_weight is GammaWeight.SOFTMAX:
        return torch.softmax(gamma, dim=0)
    summed = gamma.abs() if spec.gamma_weight is GammaWeight.ABS_SUM else gamma
    # Half types have no NumPy accumulate of their own; torch's left-to-right sum is the same rounding.
    if gamma.dtype in (torch.float32, torch.float64):
        total = torch.from_numpy(np.add.accumulate(summed.detach().cpu().numpy())[-1:])[0]
    else:
        total = torch.zeros((), dtype=gamma.dtype)
        for value in summed.detach().cpu():
            total = total + value
    total = total + spec.weight_eps
    if spec.weight_clamp is not None:
        total = total.clamp(min=spec.weight_clamp)
    return gamma / total


def static_mask(weight: torch.Tensor, spec: SRUSpec, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The mask of a static gate as 0/1, (C,): ``w`` compared with the threshold, or the stored one."""
    if spec.gamma_weight is GammaWeight.STORED and "mask" in weights:
        return weights["mask"].detach().reshape(-1).to(weight.dtype)
    return above(weight, spec.threshold, spec.comparison).to(weight.dtype)


def gate_logit(threshold: float) -> float | bool:
    """``logit(t)`` for 0 < t < 1; outside, the constant value of the mask ``sigmoid(s) > t`` (or ``>=``).

    ``sigmoid(s)`` lies strictly between 0 and 1, so t <= 0 makes the mask always true and t >= 1 always
    false, for ``>`` and ``>=`` alike.
    """
    if threshold <= 0.0:
        return True
    if threshold >= 1.0:
        return False
    return math.log(threshold) - math.log1p(-threshold)


def above(value: torch.Tensor, bound: float, comparison: Comparison) -> torch.Tensor:
    """Boolean mask ``value > bound`` or ``value >= bound``."""
    return value > bound if comparison is Comparison.GT else value >= bound
