"""Operators that make tensors: constants, ranges, shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor

from scconv_deploy.interpret.node import Node, RefusedError, Run, operator
from scconv_deploy.interpret.values import TORCH_TYPES, Call, Host, Value, from_proto, numbers

LISTS: dict[str, torch.dtype] = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


@operator("Constant")
def constant(node: Node) -> Run:
    """A tensor, or a number or list in an attribute of its own."""
    if "value" in node.attributes:
        proto: onnx.TensorProto = node.attributes["value"]
        if proto.data_type not in TORCH_TYPES:
            raise RefusedError(f"of element type {proto.data_type}")
        return lambda call, _values: from_proto(proto, call.types)
    name = next((n for n in LISTS if n in node.attributes), None)
    if name is None:
        raise RefusedError(f"with attribute {', '.join(node.attributes)}")
    made = torch.tensor(node.attributes[name], dtype=LISTS[name])
    return lambda call, _values: made.to(call.types.of(made.dtype))


@operator("ConstantOfShape")
def constant_of_shape(node: Node) -> Run:
    """One value everywhere; float32 zero without a ``value``."""
    proto: onnx.TensorProto | None = node.attributes.get("value")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        value = torch.zeros(1) if proto is None else from_proto(proto, call.types)
        dtype = call.types.of(value.dtype)
        return torch.full(numbers(values[0]), value.item(), dtype=dtype, device=call.device)

    return run


@operator("Range")
def range_(_node: Node) -> Run:
    """start, start + delta, ... below limit."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        kind = values[0].dtype if isinstance(values[0], (Host, Tensor)) else torch.int64
        start, limit, delta = (numbers(v)[0] for v in values)
        return torch.arange(start, limit, delta, dtype=call.types.of(kind), device=call.device)

    return run


@operator("Shape")
def shape(node: Node) -> Run:
    """Sizes from ``start`` to ``end``, as numbers."""
    start, end = node.integer("start", 0), node.attributes.get("end")

    def run(call: Call, values: Sequence[Value]) -> Host:
        sizes: tuple[Any, ...] = tuple(call.tensor(values[0]).shape)[start:end]
        return Host(sizes, (len(sizes),), torch.int64)

    return run


@operator("Size")
def size(_node: Node) -> Run:
    """Number of elements."""

    def run(call: Call, values: Sequence[Value]) -> Host:
        return Host((call.tensor(values[0]).numel(),), (), torch.int64)

    return run


@operator("EyeLike")
def eye_like(node: Node) -> Run:
    """Ones on the k-th diagonal of a matrix of the input's shape."""
    k, wanted = node.integer("k", 0), node.attributes.get("dtype")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        dtype = x.dtype if wanted is None else call.types.torch_type(wanted)
        rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        return (torch.arange(x.shape[1], device=x.device) - rows == k).to(dtype)

    return run
