"""Normalisations. Half types are normalised in float32 and rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scconv_deploy.interpret.node import Node, RefusedError, Run, half_type, operator, rounded_once
from scconv_deploy.interpret.values import Call, Value, is_traced

NORMS: dict[int, type[nn.Module]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
"""Rank of the input -> the module that takes it."""


@operator("BatchNormalization")
def batch_norm(node: Node) -> Run:
    """Inference; a child module where the four tensors are constant and the input's rank is known."""
    if node.integer("training_mode", 0) or node.integer("spatial", 1) != 1:
        raise RefusedError("in training mode or with spatial=0")
    eps = node.number("epsilon", 1e-5)
    kind = NORMS.get(node.ranks.get(node.proto.input[0], 0))
    scale = node.constant(1)
    if kind is not None and scale is not None and all(node.constant(i) is not None for i in range(1, 5)):
        node.module = kind(scale.shape[0], eps=eps, device="meta")
        node.taken = frozenset(range(1, 5))

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        if call.module is None:
            weight, bias, mean, variance = (call.tensor(v) for v in values[1:5])
        else:
            if half_type([x]) is None or is_traced(x) or isinstance(call.module, nn.Identity):
                return cast(Tensor, call.module(x))  # an Identity where it was folded into its producer
            layer = cast(nn.BatchNorm2d, call.module)
            weight, bias = layer.weight, layer.bias
            mean, variance = cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)
        if half_type([x]) is None or is_traced(x):
            return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        x32, mean, variance, weight, bias = (t.float() for t in (x, mean, variance, weight, bias))
        return F.batch_norm(x32, mean, variance, weight, bias, False, 0.0, eps).to(x.dtype)

    return run


@operator("InstanceNormalization")
def instance_norm(node: Node) -> Run:
    """Each channel of each sample by itself: a group norm with one channel a group."""
    eps = node.number("epsilon", 1e-5)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, scale, bias = (call.tensor(v) for v in values[:3])
        return torch.group_norm(x, scale.shape[0], scale, bias, eps)

    return rounded_once(run)


@operator("GroupNormalization")
def group_norm(node: Node) -> Run:
    """Scale and bias are per group in opset 18 and per channel from 21 on."""
    eps, groups = node.number("epsilon", 1e-5), node.integer("num_groups", 1)
    per_group = node.opset < 21

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, scale, bias = (call.tensor(v) for v in values[:3])
        if per_group:
            scale, bias = (t.repeat_interleave(x.shape[1] // groups) for t in (scale, bias))
        return torch.group_norm(x, groups, scale, bias, eps)

    return rounded_once(run)


@operator("LayerNormalization")
def layer_norm(node: Node) -> Run:
    """Over all axes from ``axis`` on; mean and inverse deviation where the graph asks for them."""
    eps, axis = node.number("epsilon", 1e-5), node.integer("axis", -1)
    outputs = len(node.proto.output)

    def run(call: Call, values: Sequence[Value]) -> Any:
        x, scale = call.tensor(values[0]), call.tensor(values[1])
        bias = call.optional(values[2]) if len(values) > 2 else None
        over = x.shape[axis % x.ndim :]
        if scale.shape == over and (bias is None or bias.shape == over):
            y = F.layer_norm(x, over, scale, bias, eps)
        else:
            y = F.layer_norm(x, over, None, None, eps) * scale
            y = y if bias is None else y + bias
        if outputs == 1:
            return y
        axes = list(range(axis % x.ndim, x.ndim))
        mean = x.mean(axes, keepdim=True)
        deviation = (x - mean).square().mean(axes, keepdim=True)
        return (y, mean, (deviation + eps).rsqrt())[:outputs]

    return rounded_once(run)


@operator("RMSNormalization")
def rms_norm(node: Node) -> Run:
    """x / sqrt(mean(x^2) + eps) * scale over all axes from ``axis`` on."""
    eps, axis = node.number("epsilon", 1e-5), node.integer("axis", -1)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, scale = call.tensor(values[0]), call.tensor(values[1])
        axes = list(range(axis % x.ndim, x.ndim))
        return x * (x.square().mean(axes, keepdim=True) + eps).rsqrt() * scale

    return rounded_once(run)


@operator("LpNormalization")
def lp_norm(node: Node) -> Run:
    """x over its L1 or L2 norm along an axis."""
    p, axis = node.integer("p", 2), node.integer("axis", -1)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        norm: Tensor = torch.linalg.vector_norm(x, p, axis, keepdim=True)
        # A norm of zero divides zeros only: the operator's definition answers zero there.
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return rounded_once(run)


@operator("MeanVarianceNormalization")
def mean_variance_norm(node: Node) -> Run:
    """(x - mean) / (deviation + 1e-9), the deviation as E[x^2] - E[x]^2 in the operator's definition."""
    axes = node.integers("axes") or [0, 2, 3]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        mean = x.mean(axes, keepdim=True)
        return (x - mean) / ((x - mean).square().mean(axes, keepdim=True).sqrt() + 1e-9)

    return rounded_once(run)
