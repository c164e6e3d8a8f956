"""One ONNX node as the builders of ``operators`` see it: attributes, opset, constant inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from scconv_deploy.interpret.values import HALVES, Call, FloatTypes, Host, Value, host_of, is_traced

Run: TypeAlias = Callable[[Call, Sequence[Value]], Any]
"""Runs one step: inputs in the node's order -> one value, or a tuple of values."""


class RefusedError(Exception):
    """A builder cannot express this node; the text is a phrase that follows the operator's name."""


@dataclass(slots=True)
class Node:
    """A node, its constants and what its builder decides about it.

    ``module`` is set by a builder that computes with a child module; ``taken`` are then the indices of the
    inputs which that module holds.
    """

    proto: onnx.NodeProto
    index: int
    opset: int
    constants: Mapping[str, Tensor | Host]
    ranks: Mapping[str, int]
    types: FloatTypes
    attributes: dict[str, Any] = field(default_factory=dict)
    module: nn.Module | None = None
    taken: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.attributes = {a.name: helper.get_attribute_value(a) for a in self.proto.attribute}

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        raw = self.attributes.get(name, default)
        return raw.decode() if isinstance(raw, bytes) else str(raw)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A floating attribute."""
        return float(self.attributes.get(name, default))

    def integers(self, name: str) -> list[int] | None:
        """A list attribute, or None where it is absent."""
        return [int(i) for i in self.attributes[name]] if name in self.attributes else None

    def has(self, position: int) -> bool:
        """Whether the input at ``position`` is given."""
        return position < len(self.proto.input) and bool(self.proto.input[position])

    def constant(self, position: int) -> Tensor | None:
        """The constant tensor at an input position, or None."""
        found = self.constants.get(self.proto.input[position]) if self.has(position) else None
        return found.tensor(torch.device("cpu")) if isinstance(found, Host) else found

    def known(self, position: int) -> list[Any] | None:
        """The numbers of a small constant input, or None where it is absent or not constant."""
        tensor = self.constant(position)
        host = None if tensor is None else host_of(tensor)
        return None if host is None else list(host.items)


Builder: TypeAlias = Callable[[Node], Run]
OPERATORS: dict[str, Builder] = {}
"""Operator of the standard domain -> what builds its step."""


def operator(*names: str) -> Callable[[Builder], Builder]:
    """Register a builder for one or several operators."""

    def register(builder: Builder) -> Builder:
        for name in names:
            OPERATORS[name] = builder
        return builder

    return register


def of_one(function: Callable[[Tensor], Tensor]) -> Run:
    """One tensor in, one out."""

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        return function(call.tensor(values[0]))

    return run


def rounded_once(run: Run) -> Run:
    """Half inputs are widened to float32 and the result is rounded once to the half type.

    This is what accelerators with wide accumulators do, and torch's own CPU kernels for most operators.
    While torch traces, nothing is widened: the traced graph is the graph in half.
    """

    def wide(call: Call, values: Sequence[Value]) -> Any:
        half = half_type(values)
        if half is None or is_traced(*values):
            return run(call, values)
        result = run(call, [v.float() if _is_half(v) else v for v in values])
        if isinstance(result, tuple):
            return tuple(_narrow(r, half) for r in result)
        return _narrow(result, half)

    return wide


def half_type(values: Sequence[Value]) -> torch.dtype | None:
    """The half type among the tensors of a step, if any."""
    return next((v.dtype for v in values if _is_half(v)), None)


def _is_half(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dtype in HALVES


def _narrow(value: Any, half: torch.dtype) -> Any:
    return value.to(half) if isinstance(value, Tensor) and value.dtype is torch.float32 else value
