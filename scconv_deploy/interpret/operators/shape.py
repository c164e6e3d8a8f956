"""Operators that move elements without computing: reshape, transpose, concat, split, expand, tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scconv_deploy.interpret.node import Node, RefusedError, Run, operator
from scconv_deploy.interpret.values import Call, Value, numbers


@operator("Reshape")
def reshape(node: Node) -> Run:
    """0 keeps the input's size there (unless allowzero), -1 is what is left."""
    zero_means_zero = bool(node.integer("allowzero", 0))

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, sizes = call.tensor(values[0]), numbers(values[1])
        if not zero_means_zero:
            sizes = [x.shape[i] if isinstance(s, int) and s == 0 else s for i, s in enumerate(sizes)]
        return x.reshape(sizes)

    return run


@operator("Flatten")
def flatten(node: Node) -> Run:
    """To two axes, cut before ``axis``."""
    axis = node.integer("axis", 1)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        at = axis + x.ndim if axis < 0 else axis
        if at == 0:
            return x.reshape(1, -1)
        if at == 1 and x.ndim > 1:
            return x.flatten(1)
        rows: Any = 1
        for size in x.shape[:at]:
            rows = rows * size
        return x.reshape(rows, -1) if x.numel() else x.reshape(rows, x[..., :0].numel())

    return run


@operator("Transpose")
def transpose(node: Node) -> Run:
    """Axes in the order of ``perm``; reversed without it."""
    order = node.integers("perm")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        return x.permute(order if order is not None else list(reversed(range(x.ndim))))

    return run


@operator("Squeeze")
def squeeze(node: Node) -> Run:
    """Drops the named axes, or all of size 1."""
    fixed = node.integers("axes")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        axes = numbers(values[1]) if len(values) > 1 and values[1] is not None else fixed
        return x.squeeze() if axes is None else x.squeeze([int(a) for a in axes])

    return run


@operator("Unsqueeze")
def unsqueeze(node: Node) -> Run:
    """Adds axes of size 1, counted in the result."""
    fixed = node.integers("axes")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        axes = numbers(values[1]) if len(values) > 1 and values[1] is not None else list(fixed or [])
        rank = x.ndim + len(axes)
        for axis in sorted(int(a) % rank for a in axes):
            x = x.unsqueeze(axis)
        return x

    return run


@operator("Concat")
def concat(node: Node) -> Run:
    """Joins along one axis."""
    axis = node.integer("axis", 1)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return torch.cat([call.tensor(v) for v in values], axis)

    return run


@operator("Split")
def split(node: Node) -> Run:
    """By sizes (attribute or input), or into as many parts as there are outputs."""
    axis, count = node.integer("axis", 0), len(node.proto.output)
    fixed = node.integers("split")

    def run(call: Call, values: Sequence[Value]) -> tuple[Tensor, ...]:
        x = call.tensor(values[0])
        sizes = numbers(values[1]) if len(values) > 1 and values[1] is not None else fixed
        if sizes is None:
            part = (x.shape[axis] + count - 1) // count
            sizes = [part] * (count - 1) + [x.shape[axis] - part * (count - 1)]
        return tuple(torch.split(x, sizes, axis))

    return run


@operator("Expand")
def expand(_node: Node) -> Run:
    """Broadcasts both ways: a 1 in the shape keeps the input's size."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x, sizes = call.tensor(values[0]), numbers(values[1])
        missing = len(sizes) - x.ndim
        sizes = [1] * -missing + sizes
        own = [1] * missing + list(x.shape)
        return x.expand([o if isinstance(s, int) and s == 1 else s for s, o in zip(sizes, own, strict=True)])

    return run


@operator("Tile")
def tile(_node: Node) -> Run:
    """Repeats along each axis."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return call.tensor(values[0]).repeat(numbers(values[1]))

    return run


@operator("DepthToSpace")
def depth_to_space(node: Node) -> Run:
    """Blocks of channels -> blocks of pixels, in DCR or CRD order."""
    b, mode = node.integer("blocksize", 1), node.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise RefusedError(f"with mode {mode}")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        if mode == "CRD":
            return torch.pixel_shuffle(x, b)
        n, c, h, w = x.shape
        blocks = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(n, c // (b * b), h * b, w * b)

    return run


@operator("SpaceToDepth")
def space_to_depth(node: Node) -> Run:
    """Blocks of pixels -> blocks of channels."""
    b = node.integer("blocksize", 1)
    if node.text("mode", "DCR") != "DCR":
        raise RefusedError(f"with mode {node.text('mode', 'DCR')}")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        n, c, h, w = call.tensor(values[0]).shape
        blocks = call.tensor(values[0]).reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(n, c * b * b, h // b, w // b)

    return run


@operator("Trilu")
def triangle(node: Node) -> Run:
    """Upper or lower triangle from the k-th diagonal."""
    function = torch.triu if node.integer("upper", 1) else torch.tril

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        k = int(numbers(values[1])[0]) if len(values) > 1 and values[1] is not None else 0
        return function(call.tensor(values[0]), k)

    return run
