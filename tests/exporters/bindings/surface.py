"""An imported TensorRT module -> its surface as text: every class, member, enum value and signature.

One line a name, sorted, so that two versions can be compared line by line::

    Builder.create_network(flags) -> INetworkDefinition
    ICudaEngine.num_io_tensors: int
    BuilderFlag.TF32 = BuilderFlag

Runs inside the process that imported the bindings, and imports nothing else of the project.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TYPE = re.compile(r"(?:\w+(?:\.|::))*(\w+)$")  # pybind writes what it learns of later as nvinfer1::Name


def surface(module: ModuleType) -> list[str]:
    """The lines of one module; its submodule ``plugin`` (10.9 and later) is listed like a class."""
    lines = []
    try:
        plugin = importlib.import_module(f"{module.__name__}.plugin")
    except ImportError:
        pass
    else:
        lines = ["plugin: class"]
        for name, value in vars(plugin).items():
            if not name.startswith("_") and (name == "op" or not isinstance(value, ModuleType)):
                lines.append(
                    f"plugin.{name}: class" if isinstance(value, type) else _line(f"plugin.{name}", value)
                )
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        if isinstance(value, type):
            bases = [
                b.__name__
                for b in value.__bases__
                if b.__module__ != "builtins" and "pybind" not in b.__name__
            ]
            lines.append(f"{name}: class" + (f" of {', '.join(bases)}" if bases else ""))
            lines.extend(_members(name, value))
        else:
            lines.append(_line(name, value))
    return sorted(set(lines))


def _members(owner: str, kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        if name == "__init__":
            yield _line(f"{owner}.{name}", value)
        elif not name.startswith("_"):
            if isinstance(value, kind):
                yield f"{owner}.{name} = {owner}"
            elif isinstance(value, type):
                yield f"{owner}.{name} = class {value.__name__}"
            else:
                yield _line(f"{owner}.{name}", value)


def _line(name: str, value: Any) -> str:
    if isinstance(value, property):
        found = re.search(r"-> (.+)", (value.fget.__doc__ if value.fget else None) or "")
        return f"{name}: {_type(found[1]) if found else '?'}"
    if not callable(value) and not isinstance(value, (staticmethod, classmethod)):
        return f"{name} = {type(value).__name__}"
    if inspect.isfunction(value):
        return f"{name}({', '.join(inspect.signature(value).parameters)}) -> ?"
    text = (getattr(value, "__doc__", None) or "") + "\n"
    last = name.rpartition(".")[2]
    forms = re.findall(rf"^(?:\d+\. )?{re.escape(last)}\((.*)\) -> (.+)$", text, re.MULTILINE)
    named = [
        (_parameters(arguments), _type(result))
        for arguments, result in forms
        if arguments != "*args, **kwargs"
    ]
    if not named:
        return f"{name}(?)"
    signatures = " | ".join(dict.fromkeys(f"({', '.join(p)})" for p, _ in named))
    return f"{name}{signatures} -> {named[0][1]}"


def _parameters(text: str) -> list[str]:
    """``"self: X, flags: int = 0"`` -> ``["flags"]``; types may hold commas inside brackets."""
    depth, parts = 0, [""]
    for character in text:
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    names = [p.split(":")[0].strip() for p in parts if p.strip()]
    return [n for n in names if n not in ("self", "/", "*")]


def _type(text: str) -> str:
    text = text.strip().removesuffix(" | None")
    found = TYPE.match(text.removeprefix("Optional[").removeprefix("typing.Optional[").removesuffix("]"))
    return found[1] if found else "?"


if __name__ == "__main__":
    # The plugin module's import logs a warning to the standard output: a file keeps the surface clean.
    Path(sys.argv[2]).write_text("\n".join(surface(importlib.import_module(sys.argv[1]))), encoding="utf-8")
