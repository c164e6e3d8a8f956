"""SRU from constants only: (N, C, H, W) -> two halves of C/2 channels; exact in real arithmetic.

The gate decides ``sigmoid(s) > t`` (or ``>=``, which every form keeps) with
``s = w * (gamma * xhat + beta)``. Forms, each with its precondition:

* Comparison: ``sigmoid(s) > t  <=>  s > logit(t)`` for 0 < t < 1, the sigmoid being strictly increasing.
  Rounding ``sigmoid(s)`` to the nearest float would merge a whole band of ``s`` around ``logit(t)`` into
  ``t`` itself and flip its gates. Elsewhere the mask is constant: the sigmoid lies strictly in (0, 1).
* Affine: ``s = (w*gamma) * xhat + (w*beta)``; no condition on signs or sizes: a negative or tiny sum of
  gamma only changes w, and gamma_c = 0 leaves ``s = w_c * beta_c``, which is 0 as w_c is (for ``gamma / sum``).
* Sign (``gate_in_half``; t = 0.5, logit 0): ``s > 0  <=>  v > 0`` with
  ``v = (sign(w)*gamma) * xhat + (sign(w)*beta)``, for ``s = |w| * v``. It needs finite w; w = 0 gives v = 0 as
  it gives s = 0. It does not depend on the magnitude of w, which is about 1/C.
* Literal (``literal_gate``): ``sigmoid(w * norm(x)) > t`` as the paper writes it, for comparison only.

and of the branches:

* soft gate without Where: ``max(r, m)`` is ``where(m, 1, r)`` since 0 < r < 1, and ``max(r, m) - m`` is
  ``where(m, 0, r)``; both without rounding.
* soft gate with the halves' common part added once: :mod:`~scconv_deploy.scconv.emit_shared`.
* hard gate: ``n = x - m*x`` is ``(1-m)*x`` without rounding.

Types: norm, logit and comparison are computed in the type of the gate's constants and everything else in that
of ``x``; in a half-precision module (:mod:`~scconv_deploy.scconv.typed`) the constants stay float32, an island
whose results are the mask, exact in any type, and ``r``, rounded once.

Refused (by the specification): odd C. sum(gamma) = 0 makes the layer itself inf or NaN: ``lower`` says so.
Twins: ``tests/scconv/test_deploy.py``, ``tests/scconv/test_gate_forms.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scconv_deploy.scconv.constants import above, gamma_weight, gate_logit, static_mask
from scconv_deploy.scconv.emit_shared import takes_shared
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


def gate_is_half(spec: SRUSpec, style: GraphStyle) -> bool:
    """Whether a half-precision module computes the gate in its own type, without a float32 island.

    Never a group-std norm in its exact form: its eps of 1e-10 vanishes in fp16, and 0/0 follows where a group is
    constant.
    """
    return style.literal_gate or (style.gate_in_half and spec.norm is Norm.GROUP_NORM)


def compares_sign(spec: SRUSpec, style: GraphStyle) -> bool:
    """Whether the sign form is asked for and legal: a comparison at t = 0.5, whose logit is 0."""
    wanted = gate_is_half(spec, style) and not style.literal_gate
    return wanted and spec.gate is not Gate.STATIC and spec.threshold == 0.5


def keeps_norm_apart(spec: SRUSpec, style: GraphStyle) -> bool:
    """Whether the norm is computed with its own gamma and beta, and the gamma weight multiplied afterwards."""
    return spec.gated is Gated.NORMALISED or style.literal_gate


class DeploySRU(nn.Module):
    """(N, C, H, W) -> the halves (y_a, y_b) of the reconstructed tensor, each (N, C/2, H, W)."""

    gate_scale: Tensor
    gate_shift: Tensor
    magnitude: Tensor
    gamma: Tensor
    beta: Tensor
    weight: Tensor
    sign: Tensor
    mask: Tensor

    def __init__(self, spec: SRUSpec, weights: Mapping[str, Tensor], style: GraphStyle) -> None:
        super().__init__()
        self.spec = spec
        self.style = style
        self.half_channels = spec.channels // 2
        self.logit = gate_logit(spec.threshold)
        self.by_sign = compares_sign(spec, style)
        self.norm_apart = keeps_norm_apart(spec, style)
        gamma = weights["gamma"].detach().reshape(-1)
        beta = weights["beta"].detach().reshape(-1)
        weight = gamma_weight(gamma, spec, weights)
        if self.norm_apart:
            self.register_buffer("gamma", gamma.clone())
            self.register_buffer("beta", beta.clone())
            self.register_buffer("weight", weight.view(-1, 1, 1).clone())
            if self.by_sign:
                self.register_buffer("sign", weight.sign().view(-1, 1, 1))
        else:
            factor = weight.sign() if self.by_sign else weight
            self.register_buffer("gate_scale", factor * gamma)
            self.register_buffer("gate_shift", factor * beta)
            if self.by_sign and spec.gate is not Gate.HARD:
                self.register_buffer("magnitude", weight.abs().view(-1, 1, 1))
        if spec.gate is Gate.STATIC:
            mask = static_mask(weight, spec, weights)
            self.register_buffer("mask", mask.view(-1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Equations 1 to 5."""
        return self.halves(*self.gate(x))

    def gate(self, x: Tensor) -> tuple[Tensor | bool | None, Tensor, Tensor]:
        """The mask, the logit ``s`` (up to a positive factor for a hard gate by sign) and the gated tensor.

        The mask is boolean (N, C, H, W), or the constant that it is everywhere, or None for a static gate.
        ``s`` is in the gate's type, the gated tensor in that of ``x``.
        """
        compared, s, gated = self._values(x)
        if self.spec.gate is Gate.STATIC:
            return None, s, gated
        if self.style.literal_gate:
            return above(torch.sigmoid(compared), self.spec.threshold, self.spec.comparison), s, gated
        if isinstance(self.logit, bool):
            return self.logit, s, gated
        return above(compared, self.logit, self.spec.comparison), s, gated

    def halves(self, mask: Tensor | bool | None, s: Tensor, gated: Tensor) -> tuple[Tensor, Tensor]:
        """(y_a, y_b) from what :meth:`gate` gives, or from another mask of the same kind."""
        h = self.half_channels
        if takes_shared(self.spec, self.style) and isinstance(mask, Tensor):
            own = mask.to(gated.dtype) * gated
            rest = torch.sigmoid(s).to(gated.dtype) * (gated - own)
            shared = rest[:, :h] + rest[:, h:]
            return own[:, :h] + shared, own[:, h:] + shared
        kept, rest = self._branches(mask, s, gated)
        if self.spec.reconstruct is Reconstruct.CROSS:
            return kept[:, :h] + rest[:, h:], kept[:, h:] + rest[:, :h]
        return kept[:, :h] + kept[:, h:], rest[:, :h] + rest[:, h:]

    def logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gate's logit ``s`` (as :meth:`gate` has it) and the tensor it gates, both (N, C, H, W)."""
        _, s, gated = self._values(x)
        return s, gated

    def gate_margin(self, x: Tensor) -> Tensor:
        """Per sample, how near the nearest gate is to its threshold: min |s - logit(t)| / max |s|, (N,).

        Infinite where no gate can flip: a static mask, or a threshold outside (0, 1).
        """
        if self.spec.gate is Gate.STATIC or isinstance(self.logit, bool):
            return torch.full((x.shape[0],), torch.inf, dtype=x.dtype)
        s = self.logits(x)[0].flatten(1)
        return (s - self.logit).abs().amin(dim=1) / s.abs().amax(dim=1).clamp(min=torch.finfo(s.dtype).tiny)

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is compared with the logit, ``s``, and the gated tensor."""
        if self.norm_apart:
            normal = normalise(x.to(self.gamma.dtype), self.spec, self.gamma, self.beta)
            s = normal * self.weight
            gated = normal.to(x.dtype) if self.spec.gated is Gated.NORMALISED else x
            return (normal * self.sign if self.by_sign else s), s, gated
        value = normalise(x.to(self.gate_scale.dtype), self.spec, self.gate_scale, self.gate_shift)
        if self.by_sign and self.spec.gate is not Gate.HARD:
            return value, value * self.magnitude, x
        return value, value, x

    def _branches(self, mask: Tensor | bool | None, s: Tensor, gated: Tensor) -> tuple[Tensor, Tensor]:
        """The informative and the less informative part of ``gated``."""
        gate = self.spec.gate
        if isinstance(mask, bool):
            return self._constant_branches(s, gated, mask)
        if mask is None:
            p = torch.sigmoid(s).to(gated.dtype) * gated
            kept = self.mask * p
            return kept, p - kept
        if gate is Gate.HARD:
            if self.style.where_mask:
                zero = torch.zeros((), dtype=gated.dtype)
                return torch.where(mask, gated, zero), torch.where(mask, zero, gated)
            kept = mask.to(gated.dtype) * gated
            return kept, gated - kept
        r = torch.sigmoid(s).to(gated.dtype)
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
        part = torch.sigmoid(s).to(gated.dtype) * gated
        if self.spec.gate is Gate.SOFT:
            return (gated, nothing) if value else (part, part)
        return (gated, part) if value else (part, nothing)
