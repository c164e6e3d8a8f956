"""Q/DQ: integers of 8 bits (or more), or float8 (e4m3fn), with a scale per tensor or per axis.

Where the graph is lifted to one floating type, float8 codes are held in that type, rounded to float8 all the
same: they are codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scconv_deploy.interpret.node import Node, RefusedError, Run, operator, rounded_once
from scconv_deploy.interpret.values import TORCH_TYPES, Call, Value

FLOAT8 = torch.float8_e4m3fn


def _along(t: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scale or zero point of one number per index of ``axis``, shaped to broadcast to x."""
    if t.ndim == 0 or t.numel() == 1:
        return t.reshape(())
    return t.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _float8(steps: Tensor) -> Tensor:
    """Saturated and rounded to the nearest e4m3fn, halves to even; torch alone turns overflow into NaN."""
    largest = torch.finfo(FLOAT8).max
    return steps.float().clamp(-largest, largest).to(FLOAT8)


def _plain(node: Node) -> int:
    if node.integer("block_size", 0):
        raise RefusedError("in blocks")
    return node.integer("axis", 1)


@operator("QuantizeLinear")
def quantize(node: Node) -> Run:
    """clamp(round(x / scale) + zero_point); halves round to even."""
    axis, wanted = _plain(node), node.integer("output_dtype", 0)
    if wanted and wanted not in TORCH_TYPES:
        raise RefusedError(f"to element type {wanted}")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, scale = call.tensor(values[0]), call.tensor(values[1])
        zero = call.optional(values[2]) if len(values) > 2 else None
        dtype = zero.dtype if zero is not None else TORCH_TYPES[wanted] if wanted else torch.uint8
        if dtype.is_floating_point:
            return _float8(x / _along(scale, x, axis)).to(call.types.of(FLOAT8))
        steps = torch.round(x / _along(scale, x, axis))
        shifted = steps if zero is None else steps + _along(zero, x, axis)
        limits = torch.iinfo(dtype)
        return shifted.clamp(limits.min, limits.max).to(dtype)

    return rounded_once(run)


@operator("DequantizeLinear")
def dequantize(node: Node) -> Run:
    """(x - zero_point) * scale, in the scale's type."""
    axis = _plain(node)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, scale = call.tensor(values[0]), call.tensor(values[1])
        zero = call.optional(values[2]) if len(values) > 2 else None
        if x.is_floating_point():
            return x.to(scale.dtype) * _along(scale, x, axis)
        steps = x.to(torch.int32)
        steps = steps if zero is None else steps - _along(zero.to(torch.int32), x, axis)
        return steps.to(scale.dtype) * _along(scale, x, axis)

    return rounded_once(run)
