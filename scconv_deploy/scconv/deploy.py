"""Deploy modules: the function of a certified block, computed from constants only.

Rewrites against the source, each exact in real arithmetic (`tests/scconv/test_deploy.py` holds the twins):

* ``sigmoid(s) > t  <=>  s > logit(t)``: the sigmoid is strictly increasing. Rounding ``sigmoid(s)`` to the
  nearest float would merge a whole band of ``s`` around ``logit(t)`` into ``t`` itself and flip its gates.
* ``s = w * (gamma * xhat + beta) = (w*gamma) * xhat + (w*beta)``: the gamma weight is folded into the norm.
* soft gate without Where: ``max(r, m)`` is ``where(m, 1, r)`` since 0 < r < 1, and ``max(r, m) - m`` is
  ``where(m, 0, r)``; both without rounding.
* hard gate: ``n = x - m*x`` is ``(1-m)*x`` without rounding.
* the halves of SRU go straight into the squeezes where the split falls on the middle, so no Concat.
* ``Y2 = [PWC2; I] low``: one 1x1 convolution in place of a Concat.
* joint softmax over the pooled pieces; the pieces of Y are scaled and added, never concatenated.
* a BatchNorm behind the block becomes a scale of the softmax weights and one shift.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scconv_deploy.scconv.constants import above, gamma_weight, gate_logit
from scconv_deploy.scconv.spec import (
    ConvSpec,
    CRUSpec,
    Fuse,
    Gate,
    Gated,
    Norm,
    Order,
    Reconstruct,
    SCConvSpec,
    SRUSpec,
    Y2Order,
)
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
        self.half = spec.channels // 2
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
        if self.spec.gated is Gated.NORMALISED:
            gated = normalise(x, self.spec, self.gamma, self.beta)
            s = gated * self.weight
        else:
            gated = x
            s = normalise(x, self.spec, self.gate_scale, self.gate_shift)
        kept, rest = self._branches(s, gated)
        h = self.half
        if self.spec.reconstruct is Reconstruct.CROSS:
            return kept[:, :h] + rest[:, h:], kept[:, h:] + rest[:, :h]
        return kept[:, :h] + kept[:, h:], rest[:, :h] + rest[:, h:]

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


def make_conv(spec: ConvSpec, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A Conv2d with the given constants (weight as ``torch.nn.Conv2d`` stores it), without gradients."""
    conv = nn.Conv2d(
        spec.c_in,
        spec.c_out,
        spec.kernel,
        spec.stride,
        spec.padding,
        spec.dilation,
        spec.groups,
        bias is not None,
        spec.padding_mode,
        dtype=weight.dtype,
    )
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv


class DeployCRU(nn.Module):
    """The pieces (up, low) of the input -> (N, C_out, H', W') (equations 6 to 9)."""

    post_scale: Tensor | None
    post_shift: Tensor | None

    def __init__(self, spec: CRUSpec, weights: Mapping[str, Tensor], style: GraphStyle) -> None:
        super().__init__()
        self.spec = spec
        self.style = style

        def conv(role: str, conv_spec: ConvSpec) -> nn.Conv2d:
            return make_conv(conv_spec, weights[f"{role}.weight"], weights.get(f"{role}.bias"))

        self.squeeze_up = conv("squeeze_up", spec.squeeze_up)
        self.squeeze_low = conv("squeeze_low", spec.squeeze_low)
        self.gwc = conv("gwc", spec.gwc)
        self.pwc1 = conv("pwc1", spec.pwc1)
        self.merged_y2 = style.merged_y2 and can_merge_y2(spec)
        pwc2 = conv("pwc2", spec.pwc2)
        self.y2 = merge_identity(pwc2, spec) if self.merged_y2 else pwc2
        self.register_buffer("post_scale", None)
        self.register_buffer("post_shift", None)

    def fold_batch_norm(self, scale: Tensor, shift: Tensor) -> None:
        """Apply ``y -> scale * y + shift`` (each (C_out,)) to the output, for free: once per block."""
        self.post_scale = scale.detach().view(-1, 1, 1).clone()
        self.post_shift = shift.detach().view(-1, 1, 1).clone()

    def forward(self, up: Tensor, low: Tensor) -> Tensor:
        """Transform and fuse."""
        up, low = self.squeeze_up(up), self.squeeze_low(low)
        y1 = self.gwc(up) + self.pwc1(up)
        y2 = self.y2(low)
        if not self.merged_y2 and self.spec.y2_order is not Y2Order.PWC2_ONLY:
            y2 = torch.cat([y2, low] if self.spec.y2_order is Y2Order.PWC2_LOW else [low, y2], dim=1)
        if self.spec.fuse is Fuse.JOINT and self.style.concat_fuse:
            return self._concat_fuse(y1, y2)
        p1, p2 = self._fuse_weights(pool(y1), pool(y2))
        if self.post_scale is None or self.post_shift is None:
            return y1 * p1 + y2 * p2
        return y1 * (p1 * self.post_scale) + y2 * (p2 * self.post_scale) + self.post_shift

    def _fuse_weights(self, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        if self.spec.fuse is Fuse.PAIR:
            return torch.sigmoid(q1 - q2), torch.sigmoid(q2 - q1)
        p = torch.softmax(torch.cat([q1, q2], dim=1), dim=1)
        return p[:, : self.spec.c_out], p[:, self.spec.c_out :]

    def _concat_fuse(self, y1: Tensor, y2: Tensor) -> Tensor:
        y = torch.cat([y1, y2], dim=1)
        p = torch.softmax(pool(y), dim=1)
        if self.post_scale is not None:
            p = p * torch.cat([self.post_scale, self.post_scale])
        y = y * p
        out = y[:, : self.spec.c_out] + y[:, self.spec.c_out :]
        return out if self.post_shift is None else out + self.post_shift


def pool(y: Tensor) -> Tensor:
    """Global average pooling, (N, C, H, W) -> (N, C, 1, 1)."""
    return y.mean(dim=(2, 3), keepdim=True)


def can_merge_y2(spec: CRUSpec) -> bool:
    """Whether PWC2 keeps positions one to one, so that the identity can be stacked under it."""
    c = spec.pwc2
    plain = c.kernel == (1, 1) and c.stride == (1, 1) and c.padding == (0, 0) and c.groups == 1
    return plain and spec.y2_order is not Y2Order.PWC2_ONLY


def merge_identity(pwc2: nn.Conv2d, spec: CRUSpec) -> nn.Conv2d:
    """``[PWC2; I]`` or ``[I; PWC2]`` as one 1x1 convolution of ``low'``."""
    identity = torch.eye(spec.pwc2.c_in, dtype=pwc2.weight.dtype).view(spec.pwc2.c_in, spec.pwc2.c_in, 1, 1)
    first = spec.y2_order is Y2Order.PWC2_LOW
    weight = torch.cat([pwc2.weight, identity] if first else [identity, pwc2.weight])
    bias = None
    if pwc2.bias is not None:
        zeros = torch.zeros(spec.pwc2.c_in, dtype=pwc2.bias.dtype)
        bias = torch.cat([pwc2.bias, zeros] if first else [zeros, pwc2.bias])
    merged = ConvSpec(spec.pwc2.c_in, weight.shape[0], bias=bias is not None)
    return make_conv(merged, weight, bias)


class DeploySCConv(nn.Module):
    """A whole certified block from its specification and constants; (N, C_in, H, W) -> (N, C_out, H', W').

    Args:
        spec: the certified specification.
        weights: role -> tensor; ``gamma`` and ``beta`` (any shape with C elements) for the SRU,
            ``squeeze_up|squeeze_low|gwc|pwc1|pwc2`` + ``.weight`` (and ``.bias``) for the CRU.
        style: the exact graph forms to use.
    """

    def __init__(
        self, spec: SCConvSpec, weights: Mapping[str, Tensor], style: GraphStyle | None = None
    ) -> None:
        super().__init__()
        style = style or GraphStyle()
        self.spec = spec
        self.sru = DeploySRU(spec.sru, weights, style) if spec.sru else None
        self.cru = DeployCRU(spec.cru, weights, style) if spec.cru else None

    def forward(self, x: Tensor) -> Tensor:
        """Both units in the specification's order."""
        if self.sru is None:
            return self._cru(x)
        if self.cru is not None and self.spec.order is Order.CRU_SRU:
            x = self._cru(x)
        y_a, y_b = self.sru(x)
        if self.cru is None or self.spec.order is Order.CRU_SRU:
            return torch.cat([y_a, y_b], dim=1)
        if self.cru.spec.up == self.sru.half:
            out: Tensor = self.cru(y_a, y_b)
            return out
        return self._cru(torch.cat([y_a, y_b], dim=1))

    def _cru(self, x: Tensor) -> Tensor:
        if self.cru is None:
            raise RuntimeError("this block has no CRU")
        up = self.cru.spec.up
        out: Tensor = self.cru(x[:, :up], x[:, up:])
        return out
