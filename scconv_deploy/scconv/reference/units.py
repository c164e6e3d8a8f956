"""SRU, CRU and SCConv of any specification, literally: equations 1 to 9 of Li, Wen, He (CVPR 2023).

A specification -> a trainable module. Every line follows the source's own order of operations (sigmoid, then
comparison with the threshold; split, then concatenate), because this module is what "correct" means.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from scconv_deploy.errors import InputError
from scconv_deploy.scconv.reference.norms import AffineNames, GroupStdNorm2d
from scconv_deploy.scconv.spec import (
    Comparison,
    ConvSpec,
    CRUSpec,
    Fuse,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    Order,
    Reconstruct,
    SCConvSpec,
    SRUSpec,
    Y2Order,
)

CRU_CONVS = ("squeeze_up", "squeeze_low", "gwc", "pwc1", "pwc2")


class ReferenceSRU(nn.Module):
    """Spatial Reconstruction Unit: (N, C, H, W) -> (N, C, H, W).

    Args:
        spec: which variant.
        names: names of the norm's scale and shift for group-std norms (``nn.GroupNorm`` names its own).
    """

    def __init__(self, spec: SRUSpec, names: AffineNames = ("weight", "bias")) -> None:
        super().__init__()
        self.spec = spec
        self.gn: nn.GroupNorm | GroupStdNorm2d
        if spec.norm is Norm.GROUP_NORM:
            self.gn = nn.GroupNorm(spec.groups, spec.channels, spec.eps)
        else:
            self.gn = GroupStdNorm2d(spec.channels, spec.groups, spec.eps, names)

    @property
    def gamma(self) -> Tensor:
        """The norm's scale as stored: (C,) or (C, 1, 1)."""
        return self.gn.weight if isinstance(self.gn, nn.GroupNorm) else self.gn.scale

    @property
    def beta(self) -> Tensor:
        """The norm's shift as stored: (C,) or (C, 1, 1)."""
        return self.gn.bias if isinstance(self.gn, nn.GroupNorm) else self.gn.shift

    def forward(self, x: Tensor) -> Tensor:
        """Separate into informative and less informative parts, then reconstruct."""
        gn_x = self.gn(x)  # equation 1
        w_gamma = self.gamma_weight().view(1, -1, 1, 1)
        reweights = torch.sigmoid(gn_x * w_gamma)
        gated = gn_x if self.spec.gated is Gated.NORMALISED else x
        w1, w2 = self._gate(reweights, w_gamma)  # equation 3
        return self._reconstruct(w1 * gated, w2 * gated)

    def gamma_weight(self) -> Tensor:
        """Equation 2 as copies write it: Python's builtin ``sum`` over the parameter."""
        gamma = self.gamma
        if self.spec.gamma_weight is GammaWeight.STORED:
            raise InputError("a stored gamma weight has no formula, so there is no reference module for it")
        if self.spec.gamma_weight is GammaWeight.NONE:
            return torch.ones_like(gamma)
        if self.spec.gamma_weight is GammaWeight.SOFTMAX:
            return torch.softmax(gamma, dim=0)
        summed = gamma.abs() if self.spec.gamma_weight is GammaWeight.ABS_SUM else gamma
        total = cast(Tensor, sum(summed)) + self.spec.weight_eps
        if self.spec.weight_clamp is not None:
            total = torch.clamp(total, min=self.spec.weight_clamp)
        return gamma / total

    def _gate(self, r: Tensor, w_gamma: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of the informative and of the less informative part."""
        t = self.spec.threshold
        strict = self.spec.comparison is Comparison.GT
        if self.spec.gate is Gate.STATIC:
            informative = w_gamma > t if strict else w_gamma >= t
            return informative * r, torch.logical_not(informative) * r
        if self.spec.gate is Gate.HARD:
            if strict:
                return (r > t).to(r.dtype), (r <= t).to(r.dtype)
            return (r >= t).to(r.dtype), (r < t).to(r.dtype)
        above = r > t if strict else r >= t
        ones, zeros = torch.ones_like(r), torch.zeros_like(r)
        w1 = torch.where(above, ones, r)
        if self.spec.gate is Gate.SOFT:
            return w1, torch.where(above, zeros, r)
        return w1, torch.where(above, r, zeros)

    def _reconstruct(self, x_1: Tensor, x_2: Tensor) -> Tensor:
        half = self.spec.channels // 2
        x_11, x_12 = torch.split(x_1, half, dim=1)
        x_21, x_22 = torch.split(x_2, half, dim=1)
        if self.spec.reconstruct is Reconstruct.CROSS:
            return torch.cat([x_11 + x_22, x_12 + x_21], dim=1)  # equations 4 and 5
        return torch.cat([x_11 + x_12, x_21 + x_22], dim=1)


class ReferenceCRU(nn.Module):
    """Channel Reconstruction Unit: (N, C_in, H, W) -> (N, C_out, H', W')."""

    def __init__(self, spec: CRUSpec) -> None:
        super().__init__()
        self.spec = spec
        self.squeeze_up = conv2d(spec.squeeze_up)
        self.squeeze_low = conv2d(spec.squeeze_low)
        self.gwc = conv2d(spec.gwc)
        self.pwc1 = conv2d(spec.pwc1)
        self.pwc2 = conv2d(spec.pwc2)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Split, transform, fuse."""
        up, low = torch.split(x, [self.spec.up, self.spec.low], dim=1)
        up, low = self.squeeze_up(up), self.squeeze_low(low)
        y1 = self.gwc(up) + self.pwc1(up)  # equation 6
        y2 = self._lower(low)  # equation 7
        if self.spec.fuse is Fuse.PAIR:
            # Equation 8: e^{S1} / (e^{S1} + e^{S2}) for each channel.
            s = torch.stack([self.pool(y1), self.pool(y2)], dim=0)
            beta = torch.softmax(s, dim=0)
            fused: Tensor = beta[0] * y1 + beta[1] * y2  # equation 9
            return fused
        y = torch.cat([y1, y2], dim=1)
        y = torch.softmax(self.pool(y), dim=1) * y
        out1, out2 = torch.split(y, self.spec.c_out, dim=1)
        return out1 + out2

    def _lower(self, low: Tensor) -> Tensor:
        pwc2: Tensor = self.pwc2(low)
        if self.spec.y2_order is Y2Order.PWC2_ONLY:
            return pwc2
        return torch.cat([pwc2, low] if self.spec.y2_order is Y2Order.PWC2_LOW else [low, pwc2], dim=1)


class ReferenceSCConv(nn.Module):
    """A whole block: (N, C_in, H, W) -> (N, C_out, H', W'), any floating dtype.

    ``spec`` is the specification; :func:`constants` gives what ``DeploySCConv`` needs.
    """

    def __init__(self, spec: SCConvSpec, names: AffineNames = ("weight", "bias")) -> None:
        super().__init__()
        self.spec = spec
        self.sru = ReferenceSRU(spec.sru, names) if spec.sru else None
        self.cru = ReferenceCRU(spec.cru) if spec.cru else None

    def forward(self, x: Tensor) -> Tensor:
        """The units in the specification's order."""
        units = (self.sru, self.cru) if self.spec.order is Order.SRU_CRU else (self.cru, self.sru)
        for unit in units:
            if unit is not None:
                x = unit(x)
        return x


def conv2d(spec: ConvSpec) -> nn.Conv2d:
    """A freshly initialised ``nn.Conv2d``. Raises InputError for an unknown padding mode."""
    if spec.padding_mode not in ("zeros", "reflect", "replicate", "circular"):
        raise InputError(
            f"padding mode '{spec.padding_mode}' is unknown; use zeros, reflect, replicate or circular"
        )
    mode = cast(Literal["zeros", "reflect", "replicate", "circular"], spec.padding_mode)
    return nn.Conv2d(
        spec.c_in,
        spec.c_out,
        spec.kernel,
        spec.stride,
        spec.padding,
        spec.dilation,
        spec.groups,
        spec.bias,
        mode,
    )


def constants(module: ReferenceSCConv) -> dict[str, Tensor]:
    """Role -> stored tensor, detached: what ``DeploySCConv(module.spec, constants(module))`` needs.

    Roles: ``gamma`` and ``beta`` of the SRU; ``squeeze_up|squeeze_low|gwc|pwc1|pwc2`` + ``.weight`` and,
    where the convolution has one, ``.bias``.
    """
    roles: dict[str, Tensor] = {}
    if module.sru is not None:
        roles["gamma"], roles["beta"] = module.sru.gamma.detach(), module.sru.beta.detach()
    if module.cru is not None:
        for role in CRU_CONVS:
            conv = cast(nn.Conv2d, module.cru.get_submodule(role))
            roles[f"{role}.weight"] = conv.weight.detach()
            if conv.bias is not None:
                roles[f"{role}.bias"] = conv.bias.detach()
    return roles
