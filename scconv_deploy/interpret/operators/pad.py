"""Padding of any axes in the modes constant, reflect, edge and wrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scconv_deploy.interpret.node import Node, RefusedError, Run, operator
from scconv_deploy.interpret.operators.padding import torch_order
from scconv_deploy.interpret.values import Call, Value, numbers


@operator("Pad")
def pad(node: Node) -> Run:
    """Pads are an attribute below opset 11; negative ones crop."""
    mode = node.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise RefusedError(f"with mode {mode}")
    fixed, value = node.integers("pads"), node.number("value", 0.0)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        pads = fixed if fixed is not None else numbers(values[1])
        fill = numbers(values[2])[0] if len(values) > 2 and values[2] is not None else value
        axes = numbers(values[3]) if len(values) > 3 and values[3] is not None else list(range(x.ndim))
        pads = _on_all_axes(pads, [int(a) % x.ndim for a in axes], x.ndim)
        if mode == "constant":
            return F.pad(x, torch_order(pads), value=fill)
        for axis in range(x.ndim):
            x = _extend(x, axis, pads[axis], pads[axis + len(pads) // 2], mode)
        return x

    return run


def _on_all_axes(pads: Sequence[Any], axes: Sequence[int], rank: int) -> list[Any]:
    full: list[Any] = [0] * 2 * rank
    for position, axis in enumerate(axes):
        full[axis], full[axis + rank] = pads[position], pads[position + len(axes)]
    return full


def _extend(x: Tensor, axis: int, begin: Any, end: Any, mode: str) -> Tensor:
    """One axis, by computing for each place of the result which element it repeats."""
    if isinstance(begin, int) and isinstance(end, int) and begin == end == 0:
        return x
    size = x.shape[axis]
    index = torch.arange(-begin, size + end, device=x.device)
    if mode == "edge":
        index = index.clamp(torch.zeros_like(index[:1]), torch.full_like(index[:1], size - 1))
    elif mode == "wrap":
        index = torch.remainder(index, size)
    else:
        index = torch.remainder(index, 2 * (size - 1))
        index = torch.where(index < size, index, 2 * (size - 1) - index)
    return x.index_select(axis, index)
