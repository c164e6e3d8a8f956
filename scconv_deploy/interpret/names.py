"""Node names and metadata of ONNX exports -> the module paths under which child modules are registered.

========================================  ==========================
``layer1.0.conv1/Conv_3`` (ours)           ``layer1.0.conv1``
``/layer1/layer1.0/conv1/Conv`` (torch)    ``layer1.0.conv1``
scopes in metadata (torch 2.6 and later)   their last module's path
a weight called ``layer1.0.conv1.weight``  ``layer1.0.conv1``
none of these                              ``conv_3``
========================================  ==========================
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

import onnx
from torch import nn

SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata key of torch's ONNX exporter: a Python list literal, the operation itself last."""

CONTAINER = "constants"
"""Child module that holds the constants which no other child owns."""

INVALID = re.compile(r"[^0-9A-Za-z_]")


def module_path(node: onnx.NodeProto, weight: str = "") -> str:
    """Dotted path of the module that a node came from; empty where nothing tells.

    Args:
        node: metadata first, then the name is looked at.
        weight: name of the node's weight initializer, the last resort.
    """
    path = _from_metadata(node) or _from_name(node.name)
    if not path and weight.endswith((".weight", ".running_mean")):
        path = weight.rpartition(".")[0]
    return ".".join(_valid(part) for part in path.split(".") if part)


def _from_metadata(node: onnx.NodeProto) -> str:
    for prop in node.metadata_props:
        if prop.key == SCOPES:
            try:
                scopes = ast.literal_eval(prop.value)
            except (ValueError, SyntaxError):  # another tool's text under this key
                return ""
            if isinstance(scopes, list) and len(scopes) >= 2:
                return str(scopes[-2])
    return ""


def _from_name(name: str) -> str:
    """The old exporter repeats a container's name before its index: ``/layer1/layer1.0/conv1/Conv``."""
    chain: list[str] = []
    for part in [p for p in name.split("/")[:-1] if p]:
        if chain and part.startswith(chain[-1] + "."):
            chain.pop()
        chain.append(part)
    return ".".join(chain)


def _valid(part: str) -> str:
    """A name that ``nn.Module.add_module`` takes at any depth."""
    name = INVALID.sub("_", part)
    return name + "_" if hasattr(nn.Module, name) or name == CONTAINER else name


def assign(wanted: Mapping[int, tuple[str, str]], taken: Iterable[str] = ()) -> dict[int, str]:
    """Unique paths, none inside another child.

    Args:
        wanted: node index -> (path it asks for or empty, its operator).
        taken: paths that are given away already (``parts``).
    """
    used = set(taken)
    parents = {up for path in [*used, *(p for p, _ in wanted.values())] for up in _parents(path)}
    made: dict[int, str] = {}
    for index, (path, kind) in wanted.items():
        own = f"{kind.lower()}_{index}"
        free = path and path not in used and path not in parents and not used & _parents(path)
        name = path if free else f"{path}.{own}" if path in parents else f"{path}_{own}" if path else own
        while name in used or name in parents or used & _parents(name):
            name = name.replace(".", "_") + "_"
        used.add(name)
        parents |= _parents(name)
        made[index] = name
    return made


def _parents(path: str) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))}


def keys(names: Iterable[str]) -> dict[str, str]:
    """Value name -> unique parameter name."""
    made: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        key = _valid(name) or "value"
        while key in used:
            key += "_"
        used.add(key)
        made[name] = key
    return made
