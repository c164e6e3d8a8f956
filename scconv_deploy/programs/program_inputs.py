"""A loaded program's signature -> its inputs as :class:`TensorSpec`, with the range of every free axis."""

from __future__ import annotations

from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import ExportedProgram

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import dims
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import AXIS_NAMES, UNBOUNDED

Range = tuple[int, int, int]


def program_inputs(program: ExportedProgram, origin: str) -> tuple[tuple[TensorSpec, ...], tuple[str, ...]]:
    """The tensors a program takes, in order: fixed axes as numbers, free ones with minimum, optimum, maximum.

    An axis that is bound to another by a formula (``2*s0 + 1``) is fixed at the size it was exported with.

    Raises:
        InputError: an input is no tensor, or there is none.
    """
    wanted = program.graph_signature.user_inputs
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    tensors: dict[str, torch.Tensor] = {}
    for name in wanted:
        value = values.get(name) if isinstance(name, str) else None
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"{origin} takes the input {name!r:.60}, which is no tensor; export it with tensors as inputs only"
            )
        tensors[name] = value
    if not tensors:
        raise InputError(f"{origin} takes no inputs, so there is nothing to deploy")
    frozen = {s for t in tensors.values() for d in t.shape for s in _bound(d)}
    names = _symbols(tensors, frozen)
    specs = tuple(_spec(name, value, program, names) for name, value in tensors.items())
    fixed = [f"{s.name} {dims(s.optimum)}" for s in specs if all(isinstance(d, int) for d in s.shape)]
    notes = []
    if fixed:
        notes.append(
            f"the program was exported for fixed shapes ({', '.join(fixed)}), so the artifact takes these only; "
            "export it with dynamic_shapes for a free batch"
        )
    if frozen:
        notes.append(
            "axes that depend on each other by a formula were fixed at the sizes they were exported with"
        )
    return specs, tuple(notes)


def _bound(size: Any) -> set[sympy.Symbol]:
    expression = size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
    return set() if expression.is_Symbol else set(expression.free_symbols)


def _symbols(tensors: dict[str, torch.Tensor], frozen: set[sympy.Symbol]) -> dict[sympy.Symbol, str]:
    """``batch``, ``height``... by the axis a symbol first stands at; the symbol's own name where that is taken."""
    found: dict[sympy.Symbol, str] = {}
    for value in tensors.values():
        sizes: tuple[Any, ...] = tuple(value.shape)
        for axis, size in enumerate(sizes):
            if not isinstance(size, torch.SymInt) or not size.node.expr.is_Symbol:
                continue
            if size.node.expr not in found and size.node.expr not in frozen:
                name = AXIS_NAMES.get(axis, f"axis{axis}")
                found[size.node.expr] = name if name not in found.values() else str(size.node.expr)
    return found


def _spec(
    name: str, value: torch.Tensor, program: ExportedProgram, names: dict[sympy.Symbol, str]
) -> TensorSpec:
    dtype = "float32" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")
    ranges = [_range(size, program, names) for size in value.shape]
    # To mypy a SymInt is an int; here a size is either.
    sizes: tuple[Any, ...] = tuple(value.shape)
    shape = tuple(
        names.get(size.node.expr, span[1]) if isinstance(size, torch.SymInt) else span[1]
        for size, span in zip(sizes, ranges, strict=True)
    )
    low, middle, high = (tuple(r[i] for r in ranges) for i in range(3))
    return TensorSpec(name, dtype, shape, low, middle, high)


def _range(size: Any, program: ExportedProgram, names: dict[sympy.Symbol, str]) -> Range:
    if not isinstance(size, torch.SymInt):
        return size, size, size
    hint = int(size.node.hint)
    bounds = program.range_constraints.get(size.node.expr)
    if size.node.expr not in names:
        return hint, hint, hint
    low = max(1, _number(bounds.lower, 1)) if bounds is not None else 1
    high = min(UNBOUNDED, _number(bounds.upper, UNBOUNDED)) if bounds is not None else UNBOUNDED
    return low, min(max(hint, low), high), high


def _number(bound: object, otherwise: int) -> int:
    return int(bound) if isinstance(bound, int | sympy.Integer) else otherwise
