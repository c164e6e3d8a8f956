"""CRU from constants only: the pieces (up, low) -> (N, C_out, H', W'); exact in real arithmetic.

* ``Y1`` as one dense convolution in a style that asks for it (:mod:`~scconv_deploy.scconv.dense_y1`).
* ``Y2 = [PWC2; I] low``: one 1x1 convolution in place of a Concat.
* joint softmax over the pooled pieces; the pieces of Y are scaled and added, never concatenated.
* pair softmax: ``softmax(q1, q2) = (sigmoid(q1 - q2), sigmoid(q2 - q1))``.
* a BatchNorm behind the block, ``y -> a y + c``, becomes a scale of the fuse's weights and one shift.

Types: in a half-precision module the pooling, the softmax and the BatchNorm's scale are computed in float32
and the weights of the sum rounded once. A mean over 56x56 elements adds up 3136 of them: in fp16 that
overflows from an average of 21 on, and a bfloat16 sum stops growing at 256 times its addends.

Twins: ``tests/scconv/test_deploy.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn

from scconv_deploy.scconv.dense_y1 import dense_y1, dense_y1_weights, takes_dense_y1
from scconv_deploy.scconv.spec import ConvSpec, CRUSpec, Fuse, Y2Order
from scconv_deploy.scconv.style import GraphStyle

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


def make_conv(spec: ConvSpec, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A Conv2d with the given constants (weight as ``torch.nn.Conv2d`` stores it), without gradients."""
    # On "meta" the constructor draws no random weights, which would be thrown away: 5 ms for 256 to 512
    # channels, more than a candidate's output takes in recognition.
    conv = nn.Conv2d(
        spec.c_in,
        spec.c_out,
        spec.kernel,
        spec.stride,
        spec.padding,
        spec.dilation,
        spec.groups,
        bias is not None,
        cast(PaddingMode, spec.padding_mode),
        device="meta",
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
        self.has_dense_y1 = takes_dense_y1(spec, style)
        if self.has_dense_y1:
            self.y1 = make_conv(dense_y1(spec), *dense_y1_weights(spec, weights))
        else:
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
        y1: Tensor = self.y1(up) if self.has_dense_y1 else self.gwc(up) + self.pwc1(up)
        y2: Tensor = self.y2(low)
        if not self.merged_y2 and self.spec.y2_order is not Y2Order.PWC2_ONLY:
            y2 = torch.cat([y2, low] if self.spec.y2_order is Y2Order.PWC2_LOW else [low, y2], dim=1)
        p1, p2 = self._fuse_weights(y1, y2)
        if self.post_scale is None or self.post_shift is None:
            return y1 * p1.to(y1.dtype) + y2 * p2.to(y2.dtype)
        p1, p2 = p1 * self.post_scale, p2 * self.post_scale
        return y1 * p1.to(y1.dtype) + y2 * p2.to(y2.dtype) + self.post_shift

    def _fuse_weights(self, y1: Tensor, y2: Tensor) -> tuple[Tensor, Tensor]:
        if self.spec.fuse is Fuse.PAIR:
            q1, q2 = pool(y1), pool(y2)
            return torch.sigmoid(q1 - q2), torch.sigmoid(q2 - q1)
        if self.style.concat_fuse:
            pooled = widened(torch.cat([y1, y2], dim=1)).mean(dim=(2, 3))
            p = torch.softmax(pooled, dim=1)[:, :, None, None]
        else:
            p = torch.softmax(torch.cat([pool(y1), pool(y2)], dim=1), dim=1)
        return p[:, : self.spec.c_out], p[:, self.spec.c_out :]


HALF_TYPES = (torch.float16, torch.bfloat16)


def widened(y: Tensor) -> Tensor:
    """``y`` in the fuse's type: float32 for the half types, else as it is."""
    return y.float() if y.dtype in HALF_TYPES else y


def pool(y: Tensor) -> Tensor:
    """Global average pooling, (N, C, H, W) -> (N, C, 1, 1), in the fuse's type."""
    return widened(y).mean(dim=(2, 3), keepdim=True)


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
