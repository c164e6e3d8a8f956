"""The test of an ``if`` -> what is known of TensorRT where it is true, and where it is false.

``hasattr(x, "name")`` and ``getattr(x, "name", None) is not None`` say that the attribute is there;
``platform.ahead_of_time`` says that the module is TensorRT for RTX.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from tests.exporters.bindings.kinds import RTX_ONLY, TRT_ONLY, Condition

OWNERS = Callable[[ast.expr], "set[str]"]


def conditions(test: ast.expr, owners: OWNERS, truth: bool = True) -> frozenset[Condition]:
    """What holds where ``test`` came out as ``truth``. ``owners`` names the TensorRT owners of an expression."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return conditions(test.operand, owners, not truth)
    if isinstance(test, ast.BoolOp):
        parts = [conditions(v, owners, truth) for v in test.values]
        all_hold = isinstance(test.op, ast.And) == truth
        return frozenset.union(*parts) if all_hold else frozenset.intersection(*parts)
    if isinstance(test, ast.Attribute) and test.attr == "ahead_of_time":
        return frozenset({RTX_ONLY if truth else TRT_ONLY})
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and _is_none(test.comparators[0]):
        there = isinstance(test.ops[0], ast.IsNot)
        return _has(test.left, owners) if there == truth else frozenset()
    return _has(test, owners) if truth else frozenset()


def _has(node: ast.expr, owners: OWNERS) -> frozenset[Condition]:
    if isinstance(node, ast.NamedExpr):
        node = node.value
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) >= 2):
        return frozenset()
    optional = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
    name = node.args[1]
    if not optional or not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
        return frozenset()
    return frozenset(("has", owner, name.value) for owner in owners(node.args[0]))


def leaves(body: list[ast.stmt]) -> bool:
    """Whether a block never falls out of its end."""
    return bool(body) and isinstance(body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)


def catches_missing(handlers: list[ast.ExceptHandler]) -> bool:
    """Whether an ``except`` here is for a missing attribute."""
    named = {
        n.id for h in handlers if h.type is not None for n in ast.walk(h.type) if isinstance(n, ast.Name)
    }
    return "AttributeError" in named


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
