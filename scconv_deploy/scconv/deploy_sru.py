"""SRU from constants only: (N, C, H, W) -> two halves of C/2 channels; exact in real arithmetic.

* ``sigmoid(s) > t  <=>  s > logit(t)``: the sigmoid is strictly increasing. Rounding ``sigmoid(s)`` to the
  nearest float would merge a whole band of ``s`` around ``logit(t)`` into ``t`` itself and flip its gates.
* ``s = w * (gamma * xhat + beta) = (w*gamma) * xhat + (w*beta)``: the gamma weight is folded into the norm.
* soft gate without Where: ``max(r, m)`` is ``where(m, 1, r)`` since 0 < r < 1, and ``max(r, m) - m`` is
  ``where(m, 0, r)``; both without rounding.
* hard gate: ``n = x - m*x`` is ``(1-m)*x`` without rounding.

Refused (by the specification): odd C. Twins: ``tests/scconv/test_deploy.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scconv_deploy.scconv.constants import above, gamma_weight, gate_logit
from scconv_deploy.scconv.spec import Gate, Gated, Norm, Reconstruct, SRUSpec
from scconv_deploy.scconv.style import GraphStyle


def normalise(x: Tensor, spec: SRUSpec, scale: Tensor, shift: Tensor) -> Tensor:
    """``scale * xhat + shift`` for x of shape (N, C, H, W), scale and shift of shape (C,)."""
    if spec.norm is Norm.GROUP_NORM:
        return F.group_norm(x, spec.groups, scale, shift, spec.eps)
    # Unbiased std with eps outside the root. Groups are cut from the flat vector: legal for any C, H, W.
    flat = x.flatten(1).reshape(x.shape[0], spec.groups, -1)
    centred = flat - flat.mean(dim=2, keepdim=True)
    count = flat.shape[2]
    variance = (centred * centred).sum(dim=2, keepdim=True) / (count - 1)
    xhat = (centred / (variance.sqrt() + spec.eps)).reshape(x.shape)
    return xhat * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


class DeploySRU(nn.Module):
    """(N, C, H, W) -> the halves (y_a, y_b) of the reconstructed tensor, each (N, C/2, H, W)."""

    gate_scale: Tensor
    gate_shift: Tensor
    gamma: Tensor
    beta: Tensor
    weight: Tensor
    mask: Tensor

    def __init__(self, spec: SRUSpec, weights: Mapping[str, Tensor], style: GraphStyle) -> None:
        super().__init__()
        self.spec = spec
        self.style = style
        self.half_channels = spec.channels // 2
        self.logit = gate_logit(spec.threshold)
        gamma = weights["gamma"].detach().reshape(-1)
        beta = weights["beta"].detach().reshape(-1)
        weight = gamma_weight(gamma, spec)
        if spec.gated is Gated.NORMALISED:
            self.register_buffer("gamma", gamma.clone())
            self.register_buffer("beta", beta.clone())
            self.register_buffer("weight", weight.view(-1, 1, 1).clone())
        else:
            self.register_buffer("gate_scale", weight * gamma)
            self.register_buffer("gate_shift", weight * beta)
        if spec.gate is Gate.STATIC:
            mask = above(weight, spec.threshold, spec.comparison).to(gamma.dtype)
            self.register_buffer("mask", mask.view(-1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Equations 1 to 5 with the gate in comparison form."""
        s, gated = self.logits(x)
        kept, rest = self._branches(s, gated)
        h = self.half_channels
        if self.spec.reconstruct is Reconstruct.CROSS:
            return kept[:, :h] + rest[:, h:], kept[:, h:] + rest[:, :h]
        return kept[:, :h] + kept[:, h:], rest[:, :h] + rest[:, h:]

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gate's logit ``s`` and the tensor it gates, both (N, C, H, W)."""
        if self.spec.gated is Gated.NORMALISED:
            gated = normalise(x, self.spec, self.gamma, self.beta)
            return gated * self.weight, gated
        return normalise(x, self.spec, self.gate_scale, self.gate_shift), x

    def gate_margin(self, x: Tensor) -> Tensor:
        """Per sample, how near the nearest gate is to its threshold: min |s - logit(t)| / max |s|, (N,).

        Infinite where no gate can flip: a static mask, or a threshold outside (0, 1).
        """
        if self.spec.gate is Gate.STATIC or isinstance(self.logit, bool):
            return torch.full((x.shape[0],), torch.inf, dtype=x.dtype)
        s = self.logits(x)[0].flatten(1)
        return (s - self.logit).abs().amin(dim=1) / s.abs().amax(dim=1).clamp(min=torch.finfo(x.dtype).tiny)

    def _branches(self, s: Tensor, gated: Tensor) -> tuple[Tensor, Tensor]:
        """The informative and the less informative part of ``gated``."""
        gate = self.spec.gate
        if gate is Gate.STATIC:
            p = torch.sigmoid(s) * gated
            kept = self.mask * p
            return kept, p - kept
        if isinstance(self.logit, bool):
            return self._constant_branches(s, gated, self.logit)
        mask = above(s, self.logit, self.spec.comparison)
        if gate is Gate.HARD:
            if self.style.where_mask:
                zero = torch.zeros((), dtype=gated.dtype)
                return torch.where(mask, gated, zero), torch.where(mask, zero, gated)
            kept = mask.to(gated.dtype) * gated
            return kept, gated - kept
        r = torch.sigmoid(s)
        if self.style.where_mask:
            w1 = torch.where(mask, torch.ones((), dtype=r.dtype), r)
            zero = torch.zeros((), dtype=r.dtype)
            w2 = torch.where(mask, zero, r) if gate is Gate.SOFT else torch.where(mask, r, zero)
            return w1 * gated, w2 * gated
        m = mask.to(r.dtype)
        w1 = torch.maximum(r, m)
        w2 = w1 - m if gate is Gate.SOFT else r * m
        return w1 * gated, w2 * gated

    def _constant_branches(self, s: Tensor, gated: Tensor, value: bool) -> tuple[Tensor, Tensor]:
        """The threshold lies outside (0, 1): the mask is ``value`` everywhere."""
        nothing = torch.zeros_like(gated)
        if self.spec.gate is Gate.HARD:
            return (gated, nothing) if value else (nothing, gated)
        part = torch.sigmoid(s) * gated
        if self.spec.gate is Gate.SOFT:
            return (gated, nothing) if value else (part, part)
        return (gated, part) if value else (part, nothing)
