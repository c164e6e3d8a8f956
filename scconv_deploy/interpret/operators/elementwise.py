"""Element by element: arithmetic, comparison, logic, casts.

Each of these is one torch call that rounds its result once, so half types are computed natively.
"""

from __future__ import annotations

import operator as py
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from scconv_deploy.interpret.node import Node, RefusedError, Run, of_one, operator, rounded_once
from scconv_deploy.interpret.values import TORCH_TYPES, Call, Value

UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Sign": torch.sign,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Erf": torch.erf,
    "Not": torch.logical_not,
    "IsNaN": torch.isnan,
    "BitwiseNot": torch.bitwise_not,
}

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": py.add,
    "Sub": py.sub,
    "Mul": py.mul,
    "Equal": py.eq,
    "Greater": py.gt,
    "GreaterOrEqual": py.ge,
    "Less": py.lt,
    "LessOrEqual": py.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}

VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Min": torch.minimum,
    "Max": torch.maximum,
}


@operator(*UNARY)
def unary(node: Node) -> Run:
    """One tensor in, one out."""
    return of_one(UNARY[node.proto.op_type])


@operator(*BINARY)
def binary(node: Node) -> Run:
    """Two broadcast tensors in, one out."""
    function = BINARY[node.proto.op_type]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        result: Tensor = function(call.tensor(values[0]), call.tensor(values[1]))
        return result

    return run


@operator("Div")
def divide(_node: Node) -> Run:
    """Integers divide towards zero, as in C."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        a, b = call.tensor(values[0]), call.tensor(values[1])
        return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc").to(a.dtype)

    return run


@operator("Mod")
def modulo(node: Node) -> Run:
    """``fmod=1`` takes the sign of the dividend, ``fmod=0`` that of the divisor."""
    function = torch.fmod if node.integer("fmod", 0) else torch.remainder

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return function(call.tensor(values[0]), call.tensor(values[1]))

    return run


@operator("Pow")
def power(_node: Node) -> Run:
    """The exponent may have another type; the result has the base's."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        base, exponent = call.tensor(values[0]), call.tensor(values[1])
        return torch.pow(base, exponent).to(base.dtype)

    return rounded_once(run)


@operator(*VARIADIC)
def extremum(node: Node) -> Run:
    """Any number of broadcast tensors; exact in every type."""
    function = VARIADIC[node.proto.op_type]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return reduce(function, [call.tensor(v) for v in values])

    return run


@operator("Sum", "Mean")
def total(node: Node) -> Run:
    """Any number of broadcast tensors, added and, for Mean, divided by their number; rounded once."""
    mean = node.proto.op_type == "Mean"

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        added = reduce(py.add, [call.tensor(v) for v in values])
        result: Tensor = added / len(values) if mean else added
        return result

    return rounded_once(run)


@operator("IsInf")
def is_infinite(node: Node) -> Run:
    """Infinities of the signs that the node asks for."""
    positive, negative = node.integer("detect_positive", 1), node.integer("detect_negative", 1)

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        found = torch.zeros_like(x, dtype=torch.bool)
        if positive:
            found = found | torch.isposinf(x)
        return found | torch.isneginf(x) if negative else found

    return run


@operator("Where")
def where(_node: Node) -> Run:
    """Selects; exact."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return torch.where(call.tensor(values[0]), call.tensor(values[1]), call.tensor(values[2]))

    return run


@operator("Clip")
def clip(node: Node) -> Run:
    """Bounds are attributes below opset 11 and inputs from there on."""
    if node.opset < 11:
        low: Any = node.attributes.get("min")
        high: Any = node.attributes.get("max")
        return lambda call, values: _clip(call.tensor(values[0]), low, high)
    fixed = [node.known(i) for i in (1, 2)]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        bounds = [
            known[0] if known else call.optional(values[i] if i < len(values) else None)
            for i, known in zip((1, 2), fixed, strict=True)
        ]
        return _clip(call.tensor(values[0]), *bounds)

    return run


def _clip(x: Tensor, low: Any, high: Any) -> Tensor:
    # max before min: where the bounds cross, ONNX answers with the upper one, as torch.clamp does.
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        x = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
        return x if high is None else torch.minimum(x, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    return x if low is None and high is None else torch.clamp(x, low, high)


@operator("Cast")
def cast(node: Node) -> Run:
    """To the type that stands for the asked one: a lifted or cast program keeps floats as wide as they are."""
    wanted = node.integer("to", 0)
    if wanted not in TORCH_TYPES:
        raise RefusedError(f"to element type {wanted}")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return call.tensor(values[0]).to(call.types.torch_type(wanted))

    return run


@operator("CastLike")
def cast_like(_node: Node) -> Run:
    """To the type of the second input."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return call.tensor(values[0]).to(call.tensor(values[1]).dtype)

    return run


@operator("Identity", "Dropout")
def identity(node: Node) -> Run:
    """The input itself; Dropout in inference, with a mask of ones where the graph asks for it."""
    if node.proto.op_type == "Dropout" and node.has(2) and node.known(2) != [False]:
        raise RefusedError("in training mode")
    masked = len(node.proto.output) > 1

    def run(call: Call, values: Sequence[Value]) -> Any:
        if not masked:
            return values[0]
        x = call.tensor(values[0])
        return x, torch.ones_like(x, dtype=torch.bool)

    return run
