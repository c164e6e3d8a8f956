"""Reductions, arg-reductions, sorting and running sums. Half types are summed in float32, rounded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scconv_deploy.interpret.node import Node, Run, operator, rounded_once
from scconv_deploy.interpret.values import Call, Value, is_traced, numbers

Axes = list[int]


def _product(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def _sum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return torch.sum(x, axes, keepdim=keep)


REDUCTIONS: dict[str, Callable[[Tensor, Axes, bool], Tensor]] = {
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keepdim=keep),
    "ReduceSum": _sum,
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keepdim=keep),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": lambda x, axes, keep: _sum(x * x, axes, keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _sum(x, axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}


@operator(*REDUCTIONS)
def reduction(node: Node) -> Run:
    """Axes are an attribute, or an input (ReduceSum from opset 13, the others from 18)."""
    function = REDUCTIONS[node.proto.op_type]
    keep = bool(node.integer("keepdims", 1))
    nothing = bool(node.integer("noop_with_empty_axes", 0))
    fixed = node.integers("axes")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        given = len(values) > 1 and values[1] is not None
        axes = numbers(values[1]) if given else list(fixed or [])
        if not axes and nothing:
            return x
        axes = [int(axis) % x.ndim for axis in axes] if axes else list(range(x.ndim))
        return function(x, axes, keep).to(x.dtype)

    return rounded_once(run)


@operator("ArgMax", "ArgMin")
def arg_extremum(node: Node) -> Run:
    """Index of the first (or, where asked, the last) extremum along an axis."""
    function = torch.argmax if node.proto.op_type == "ArgMax" else torch.argmin
    axis, keep = node.integer("axis", 0), bool(node.integer("keepdims", 1))
    last = bool(node.integer("select_last_index", 0))

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        if not last:
            return function(x, axis, keepdim=keep)
        return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)

    return run


@operator("TopK")
def top_k(node: Node) -> Run:
    """Values and indices of the k largest (or smallest) along an axis."""
    axis = node.integer("axis", -1)
    largest, in_order = bool(node.integer("largest", 1)), bool(node.integer("sorted", 1))
    fixed = node.attributes.get("k")

    def run(call: Call, values: Sequence[Value]) -> tuple[Tensor, Tensor]:
        k = fixed if fixed is not None else numbers(values[1])[0]
        x = call.tensor(values[0])
        if is_traced(x):
            found = torch.topk(x, k, axis, largest, in_order)
            return found.values, found.indices
        # Among equal elements ONNX takes the lower index first, which torch.topk does not promise.
        order = torch.sort(x, dim=axis, descending=largest, stable=True)
        return order.values.narrow(axis, 0, k), order.indices.narrow(axis, 0, k)

    return run


@operator("CumSum")
def running_sum(node: Node) -> Run:
    """Running sum along an axis, optionally backwards or without the element itself."""
    exclusive, reverse = node.integer("exclusive", 0), node.integer("reverse", 0)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, axis = call.tensor(values[0]), int(numbers(values[1])[0])
        turned = x.flip(axis) if reverse else x
        added = torch.cumsum(turned, axis, dtype=x.dtype)
        if exclusive:
            first = torch.zeros_like(added.narrow(axis, 0, 1))
            added = torch.cat([first, added.narrow(axis, 0, added.shape[axis] - 1)], axis)
        return added.flip(axis) if reverse else added

    return rounded_once(run)
