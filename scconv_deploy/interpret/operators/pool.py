"""Pooling. Averages of half types are summed in float32 and rounded once; maxima are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scconv_deploy.interpret.node import Node, RefusedError, Run, operator, rounded_once
from scconv_deploy.interpret.operators.padding import pads_for, zero_pad
from scconv_deploy.interpret.values import Call, Value

AVERAGES: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAXIMA: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node) -> Run:
    """Over all spatial axes, which stay as size 1."""
    mean = node.proto.op_type == "GlobalAveragePool"

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        axes = list(range(2, x.ndim))
        return torch.mean(x, axes, keepdim=True) if mean else torch.amax(x, axes, keepdim=True)

    return rounded_once(run)


def _window(node: Node) -> tuple[list[int], list[int], list[int]]:
    kernel = node.integers("kernel_shape") or []
    if len(kernel) not in AVERAGES:
        raise RefusedError(f"with {len(kernel)} spatial axes")
    stride, dilation = (node.integers(k) or [1] * len(kernel) for k in ("strides", "dilations"))
    return kernel, stride, dilation


def _fits(pads: Sequence[int], kernel: Sequence[int]) -> bool:
    """Whether torch's own pooling can pad: equally on both sides, by at most half the kernel."""
    rank = len(kernel)
    return list(pads[:rank]) == list(pads[rank:]) and all(
        2 * p <= k for p, k in zip(pads[:rank], kernel, strict=True)
    )


@operator("MaxPool")
def max_pool(node: Node) -> Run:
    """The first output only; what the padding adds is never the maximum."""
    if len(node.proto.output) > 1 and node.proto.output[1]:
        raise RefusedError("with its Indices output")
    kernel, stride, dilation = _window(node)
    ceil, function = bool(node.integer("ceil_mode", 0)), MAXIMA[len(kernel)]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        pads = pads_for(node, x, kernel, stride, dilation)
        if _fits(pads, kernel):
            return function(x, kernel, stride, pads[: len(kernel)], dilation, ceil_mode=ceil)
        lowest = -float("inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
        return function(zero_pad(x, pads, lowest), kernel, stride, 0, dilation, ceil_mode=ceil)

    return run


@operator("AveragePool")
def average_pool(node: Node) -> Run:
    """Unequal pads with count_include_pad=0: the average of the padded input over that of padded ones."""
    kernel, stride, dilation = _window(node)
    if any(d != 1 for d in dilation):
        raise RefusedError("with dilations")
    ceil, counted = bool(node.integer("ceil_mode", 0)), bool(node.integer("count_include_pad", 0))
    function, rank = AVERAGES[len(kernel)], len(kernel)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        pads = pads_for(node, x, kernel, stride, dilation)
        if _fits(pads, kernel):
            return function(x, kernel, stride, pads[:rank], ceil, counted)
        average = function(zero_pad(x, pads), kernel, stride, 0, ceil, False)
        if counted:
            return average
        return average / function(zero_pad(torch.ones_like(x), pads), kernel, stride, 0, ceil, False)

    return rounded_once(run)
