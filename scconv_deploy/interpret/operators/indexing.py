"""Operators that pick elements by index: slice, gather, scatter, one-hot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scconv_deploy.interpret.node import Node, RefusedError, Run, operator
from scconv_deploy.interpret.values import Call, Host, Value, numbers


@operator("Slice")
def slice_(node: Node) -> Run:
    """Starts, ends, axes and steps: attributes below opset 10, inputs from there on."""
    fixed = [node.integers(name) for name in ("starts", "ends", "axes")] if node.opset < 10 else None

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        given: list[list[Any] | None] = [None if v is None else numbers(v) for v in values[1:]]
        given = [*(given if fixed is None else fixed), None, None]
        starts, ends = given[0] or [], given[1] or []
        axes = given[2] if given[2] is not None else list(range(len(starts)))
        steps = given[3] if given[3] is not None else [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            x = _cut(x, int(axis) % x.ndim, start, end, int(step))
        return x

    return run


def _cut(x: Tensor, axis: int, start: Any, end: Any, step: int) -> Tensor:
    if step > 0:
        return x[(slice(None),) * axis + (slice(start, end, step),)]
    taken = range(*slice(start, end, step).indices(int(x.shape[axis])))
    if len(taken) == 0:
        return x.narrow(axis, 0, 0)
    forward = taken[::-1]
    return x[(slice(None),) * axis + (slice(forward.start, forward.stop, forward.step),)].flip(axis)


@operator("Gather")
def gather(node: Node) -> Run:
    """Whole slices along an axis, by indices of any shape; negative ones count from the end."""
    axis = node.integer("axis", 0)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, at = call.tensor(values[0]), axis % call.tensor(values[0]).ndim
        if isinstance(values[1], Host) and values[1].shape == ():
            return x.select(at, values[1].scalar())
        index = _counted_from_start(call.tensor(values[1]), x.shape[at])
        picked = x.index_select(at, index.reshape(-1))
        return picked.reshape([*x.shape[:at], *index.shape, *x.shape[at + 1 :]])

    return run


def _counted_from_start(index: Tensor, size: Any) -> Tensor:
    index = index.long()
    return torch.where(index < 0, index + size, index)


@operator("GatherElements")
def gather_elements(node: Node) -> Run:
    """Single elements along an axis."""
    axis = node.integer("axis", 0)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        return torch.gather(x, axis, _counted_from_start(call.tensor(values[1]), x.shape[axis]))

    return run


@operator("GatherND")
def gather_nd(node: Node) -> Run:
    """Slices by index tuples in the last axis of the indices."""
    if node.integer("batch_dims", 0):
        raise RefusedError("with batch_dims")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, index = call.tensor(values[0]), call.tensor(values[1])
        return x[tuple(index.unbind(-1))]

    return run


@operator("ScatterElements")
def scatter_elements(node: Node) -> Run:
    """Single elements along an axis, replaced or combined."""
    axis, how = node.integer("axis", 0), node.text("reduction", "none")
    reduce = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[how]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, updates = call.tensor(values[0]), call.tensor(values[2])
        index = _counted_from_start(call.tensor(values[1]), x.shape[axis])
        if reduce is None:
            return x.scatter(axis, index, updates)
        return x.scatter_reduce(axis, index, updates, reduce)

    return run


@operator("ScatterND")
def scatter_nd(node: Node) -> Run:
    """Slices by index tuples, replaced or added to."""
    how = node.text("reduction", "none")
    if how not in ("none", "add"):
        raise RefusedError(f"with reduction {how}")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, index, updates = (call.tensor(v) for v in values)
        return x.index_put(tuple(index.unbind(-1)), updates, accumulate=how == "add")

    return run


@operator("OneHot")
def one_hot(node: Node) -> Run:
    """``off`` everywhere but ``on`` at the index, along a new axis."""
    axis = node.integer("axis", -1)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        depth = int(numbers(values[1])[0])
        off, on = call.tensor(values[2]).unbind(0)
        index = _counted_from_start(call.tensor(values[0]), depth)
        new = axis % (index.ndim + 1)
        classes = torch.arange(depth, device=index.device)
        classes = classes.reshape([-1] + [1] * (index.ndim - new))
        return torch.where(index.unsqueeze(new) == classes, on, off)

    return run


@operator("NonZero")
def non_zero(_node: Node) -> Run:
    """Indices of the non-zero elements, one row for each axis."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return call.tensor(values[0]).nonzero().t()

    return run
