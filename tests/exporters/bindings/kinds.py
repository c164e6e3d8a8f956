"""What an expression may be, and one attribute access: the words of :mod:`tests.exporters.bindings.touched`."""

from __future__ import annotations

import ast
from dataclasses import dataclass

Kind = tuple[str, str]
"""("module", ""), ("class" | "object", a TensorRT class), ("method", "Owner.name"), ("cuda", ""),
("ours" | "our class", one of our classes), ("function", one of our functions)."""

Value = frozenset[Kind]
NOTHING: Value = frozenset()
MANY = "many "
"""Before the kind of what a container holds."""

MODULE_KIND: Kind = ("module", "")
CUDA = "cuda"
MODULE = ""
"""The owner of what the TensorRT module itself holds."""

Condition = tuple[str, str, str]
"""("has", owner, name), ("rtx", "", ""), ("trt", "", "") or ("tried", "", "")."""

RTX_ONLY: Condition = ("rtx", "", "")
TRT_ONLY: Condition = ("trt", "", "")
TRIED: Condition = ("tried", "", "")


@dataclass(frozen=True, slots=True)
class Touch:
    """One attribute access. ``owner`` is a class of TensorRT, "" for the module, "cuda" for the CUDA runtime."""

    file: str
    line: int
    owner: str
    name: str
    under: frozenset[Condition] = frozenset()


@dataclass(frozen=True, slots=True)
class Function:
    """One of our functions; ``owner`` is the class it is a method of."""

    node: ast.FunctionDef
    file: str
    owner: str | None

    @property
    def name(self) -> str:
        """Unlike any other's."""
        return f"{self.file}:{self.node.lineno}:{self.node.name}"

    @property
    def parameters(self) -> list[ast.arg]:
        """Those that may be given by position, and the keyword-only ones behind them."""
        arguments = self.node.args
        return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


PLUGIN: Kind = ("class", "plugin")
"""``tensorrt.plugin``, recorded like a class of the module."""


def called(name: str, value: Value) -> Value:
    """Modules go by the name of what holds them: ``cuda`` is CUDA's, ``plugin`` is ``tensorrt.plugin``."""
    if MODULE_KIND not in value or not ("cuda" in name or "plugin" in name):
        return value
    return value - {MODULE_KIND} | {(CUDA, "") if "cuda" in name else PLUGIN}


def wrapped(value: Value) -> Value:
    """A container of it."""
    return frozenset((MANY + kind.removeprefix(MANY), name) for kind, name in value)


def unwrapped(value: Value) -> Value:
    """What a container of it holds; anything else stays as it is."""
    return frozenset((kind.removeprefix(MANY), name) for kind, name in value)
