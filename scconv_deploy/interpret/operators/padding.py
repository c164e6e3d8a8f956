"""``pads`` and ``auto_pad`` of convolutions and pools -> begins and ends for each spatial axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import Tensor

from scconv_deploy.interpret.node import Node

Pads: TypeAlias = list[Any]
"""ONNX order: all begins, then all ends; sizes may be symbolic while tracing."""


def fixed_pads(
    node: Node, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pads | None:
    """Pads that do not depend on the input's size, or None (``auto_pad`` SAME with a stride)."""
    auto = node.text("auto_pad", "NOTSET")
    if auto == "VALID":
        return [0] * 2 * len(kernel)
    if auto == "NOTSET":
        return list(node.integers("pads") or [0] * 2 * len(kernel))
    if all(s == 1 for s in stride):
        return _halves([(k - 1) * d for k, d in zip(kernel, dilation, strict=True)], auto)
    return None


def pads_for(
    node: Node, x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pads:
    """Pads for an input x of (N, C, sizes...)."""
    fixed = fixed_pads(node, kernel, stride, dilation)
    if fixed is not None:
        return fixed
    totals = []
    for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        out = (size + s - 1) // s
        reach = (out - 1) * s + (k - 1) * d + 1 - size
        totals.append(reach if reach > 0 else 0)
    return _halves(totals, node.text("auto_pad", "NOTSET"))


def _halves(totals: list[Any], auto: str) -> Pads:
    """An odd pad's extra element goes to the end for SAME_UPPER and to the begin for SAME_LOWER."""
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if auto == "SAME_UPPER" else large + small


def torch_order(pads: Sequence[Any]) -> list[Any]:
    """ONNX's begins and ends -> torch's (begin, end) pairs from the last axis to the first."""
    rank = len(pads) // 2
    return [pads[axis + side * rank] for axis in reversed(range(rank)) for side in (0, 1)]


def zero_pad(x: Tensor, pads: Sequence[Any], value: float = 0.0) -> Tensor:
    """Pad (or, with negative pads, crop) the last ``len(pads) / 2`` axes."""
    if all(isinstance(p, int) and p == 0 for p in pads):
        return x
    return F.pad(x, torch_order(pads), value=value)
