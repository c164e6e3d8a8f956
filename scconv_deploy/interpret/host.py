"""Shape arithmetic on Python numbers: the steps between ``Shape`` and ``Reshape``.

Each function takes the inputs as :class:`~scconv_deploy.interpret.values.Host` and answers None where the
result is not a 0-d or 1-d list of numbers; the step then runs on tensors. Numbers may be SymInts, so no
branch looks at a value where it can be avoided.
"""

from __future__ import annotations

import math
import operator as py
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from onnx import numpy_helper

from scconv_deploy.interpret.node import Node
from scconv_deploy.interpret.values import TORCH_TYPES, Host

Hosts: TypeAlias = Sequence[Host | None]
HostRun: TypeAlias = Callable[[Hosts], "Host | tuple[Host, ...] | None"]


def host_run(node: Node) -> HostRun | None:
    """What runs this node on numbers, or None where it never can."""
    kind = node.proto.op_type
    if kind in BINARY:
        return lambda values: _elementwise(BINARY[kind], values)
    if kind in UNARY:
        return lambda values: _elementwise(UNARY[kind], values)
    made = SPECIAL.get(kind)
    return made(node) if made is not None else None


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float) or isinstance(a, torch.SymFloat):
        return a / b
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    return a // b  # sizes are positive


def _whole(function: Callable[[Any], Any], a: Any) -> Any:
    if isinstance(a, (int, torch.SymInt)):
        return a
    return torch.sym_float(function(a))  # type: ignore[no-untyped-call]


def _where(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


BINARY: dict[str, Callable[..., Any]] = {
    "Add": py.add,
    "Sub": py.sub,
    "Mul": py.mul,
    "Div": _divide,
    "Mod": py.mod,
    "Equal": py.eq,
    "Greater": py.gt,
    "GreaterOrEqual": py.ge,
    "Less": py.lt,
    "LessOrEqual": py.le,
    "And": lambda a, b: bool(a) and bool(b),
    "Or": lambda a, b: bool(a) or bool(b),
    "Min": lambda *numbers: _fold(torch.sym_min, numbers),
    "Max": lambda *numbers: _fold(torch.sym_max, numbers),
    "Where": _where,
}
"""Elementwise on two or more inputs; a single number broadcasts."""

UNARY: dict[str, Callable[[Any], Any]] = {
    "Identity": lambda a: a,
    "Neg": py.neg,
    "Abs": abs,
    "Not": lambda a: not a,
    "Floor": lambda a: _whole(math.floor, a),
    "Ceil": lambda a: _whole(math.ceil, a),
    "Sqrt": lambda a: torch.sym_sqrt(a) if isinstance(a, (torch.SymInt, torch.SymFloat)) else math.sqrt(a),
}
COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Not"})


def _fold(function: Callable[[Any, Any], Any], numbers: Sequence[Any]) -> Any:
    result = numbers[0]
    for number in numbers[1:]:
        result = function(result, number)
    return result


def _elementwise(function: Callable[..., Any], values: Hosts) -> Host | None:
    given = [v for v in values if v is not None]
    length = max(len(v.items) for v in given)
    if any(len(v.items) not in (1, length) for v in given):
        return None
    columns = [v.items * length if len(v.items) == 1 else v.items for v in given]
    items = tuple(function(*row) for row in zip(*columns, strict=True))
    shape = (length,) if any(v.shape for v in given) else ()
    compares = any(function is f for k, f in {**BINARY, **UNARY}.items() if k in COMPARISONS)
    dtype = torch.bool if compares else given[-1].dtype
    return Host(items, shape, dtype)


def _cast(node: Node) -> HostRun | None:
    wanted = TORCH_TYPES.get(node.integer("to", 0))
    if wanted is None:
        return None
    dtype = wanted

    def convert(item: Any) -> Any:
        if dtype.is_floating_point:
            return torch.sym_float(item)  # type: ignore[no-untyped-call]
        if dtype is torch.bool:
            return item != 0
        # Cast cuts towards zero, as Python's int does.
        if isinstance(item, (torch.SymInt, torch.SymFloat)):
            return torch.sym_int(item)  # type: ignore[no-untyped-call]
        return int(item)

    def run(values: Hosts) -> Host | None:
        value = values[0]
        return None if value is None else Host(tuple(map(convert, value.items)), value.shape, dtype)

    return run


def _gather(_node: Node) -> HostRun:
    def run(values: Hosts) -> Host | None:
        data, index = values[0], values[1]
        if data is None or index is None or not data.shape:
            return None
        return Host(tuple(data.items[i] for i in index.items), index.shape, data.dtype)

    return run


def _concat(_node: Node) -> HostRun:
    def run(values: Hosts) -> Host | None:
        given = [v for v in values if v is not None]
        items = tuple(item for v in given for item in v.items)
        return Host(items, (len(items),), given[0].dtype) if all(v.shape for v in given) else None

    return run


def _slice(node: Node) -> HostRun:
    fixed = [node.integers(name) for name in ("starts", "ends")] if node.opset < 10 else None

    def run(values: Hosts) -> Host | None:
        data = values[0]
        if data is None or not data.shape:
            return None
        given: list[Any] = [v.items[0] if v is not None and len(v.items) == 1 else None for v in values[1:]]
        if fixed is not None:
            given = [bounds[0] if bounds else None for bounds in fixed]
        given = [*given, None, None]  # axes and steps may be left out
        if given[0] is None or given[1] is None:
            return None
        items = data.items[slice(given[0], given[1], given[3])]
        return Host(items, (len(items),), data.dtype)

    return run


def _axes_count(node: Node, values: Hosts) -> int | None:
    axes = node.integers("axes")
    if axes is not None:
        return len(axes)
    given = values[1] if len(values) > 1 else None
    return None if given is None else len(given.items)


def _unsqueeze(node: Node) -> HostRun:
    def run(values: Hosts) -> Host | None:
        data = values[0]
        if data is None or data.shape or _axes_count(node, values) != 1:
            return None
        return Host(data.items, (1,), data.dtype)

    return run


def _squeeze(_node: Node) -> HostRun:
    def run(values: Hosts) -> Host | None:
        data = values[0]
        return Host(data.items, (), data.dtype) if data is not None and data.shape == (1,) else None

    return run


def _reshape(_node: Node) -> HostRun:
    def run(values: Hosts) -> Host | None:
        data, target = values[0], values[1]
        if data is None or target is None or len(target.items) > 1:
            return None
        return Host(data.items, (len(data.items),) if target.items else (), data.dtype)

    return run


def _reduction(function: Callable[[Any, Any], Any]) -> Callable[[Node], HostRun]:
    def build(node: Node) -> HostRun:
        keep = bool(node.integer("keepdims", 1))

        def run(values: Hosts) -> Host | None:
            data = values[0]
            if data is None or not data.shape or not data.items:
                return None
            return Host((_fold(function, data.items),), (1,) if keep else (), data.dtype)

        return run

    return build


def _constant_of_shape(node: Node) -> HostRun:
    value = node.attributes.get("value")

    def run(values: Hosts) -> Host | None:
        shape = values[0]
        if value is None or value.data_type not in TORCH_TYPES or shape is None or len(shape.items) > 1:
            return None
        dtype = TORCH_TYPES[value.data_type]
        count = shape.items[0] if shape.items else 1
        if dtype.is_floating_point or not isinstance(count, int) or count > 64:
            return None
        number = numpy_helper.to_array(value).reshape(-1)[0].item()
        return Host((number,) * count, (count,) if shape.items else (), dtype)

    return run


def _split(node: Node) -> HostRun:
    count = len(node.proto.output)

    def run(values: Hosts) -> tuple[Host, ...] | None:
        data = values[0]
        given = values[1] if len(values) > 1 else None
        if data is None or not data.shape:
            return None
        part = -(-len(data.items) // count)
        sizes = list(given.items) if given is not None else node.integers("split") or [part] * count
        parts, at = [], 0
        for length in sizes:
            items = data.items[at : at + length]
            parts.append(Host(items, (len(items),), data.dtype))
            at += length
        return tuple(parts)

    return run


SPECIAL: dict[str, Callable[[Node], HostRun | None]] = {
    "Cast": _cast,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "ReduceProd": _reduction(py.mul),
    "ReduceSum": _reduction(py.add),
    "ReduceMax": _reduction(torch.sym_max),
    "ReduceMin": _reduction(torch.sym_min),
    "ConstantOfShape": _constant_of_shape,
    "Split": _split,
}
