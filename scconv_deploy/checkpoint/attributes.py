"""What a pickled module's objects say -> the family told, and differences from a built network.

Weights do not hold groups, threshold, eps, strides or the gate, but a pickled module's attributes hold many
of them. They are read from inert objects, so no code of the file runs; where they contradict the network that
was built for the weights, that network would compute another function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from scconv_deploy.checkpoint.facts import Inert
from scconv_deploy.checkpoint.state import modules
from scconv_deploy.checkpoint.trust import is_layer_name
from scconv_deploy.scconv.reference.families import FAMILIES
from scconv_deploy.scconv.reference.norms import GroupStdNorm2d
from scconv_deploy.scconv.reference.units import ReferenceSRU
from scconv_deploy.scconv.spec import CRUSpec, SRUSpec

IDLE = ("training", "momentum", "inplace", "track_running_stats")
"""Attributes of torch layers that do not change what they compute in eval mode."""

SPECS: Mapping[str, type[SRUSpec] | type[CRUSpec]] = {
    f"{s.__module__}.{s.__qualname__}": s for s in (SRUSpec, CRUSpec)
}


def family_told(content: Any) -> str | None:
    """The family that the specifications inside a pickled zoo module state; None where there are none."""
    told: dict[str, Any] = {}
    for _, module in modules(content) if isinstance(content, Inert) else ():
        told |= _specification(module)
    axes = ("norm", "gamma_weight", "gate", "comparison", "gated", "fuse")
    for name, chosen in FAMILIES.items():
        if all(told.get(a) == getattr(chosen, a).value for a in axes):
            return name
    return None


def differences(content: Any, built: nn.Module) -> tuple[str, ...]:
    """Attributes that decide numbers and differ between the file's objects and ``built``, in words."""
    own = dict(built.named_modules())
    found = []
    for name, module in modules(content) if isinstance(content, Inert) else ():
        twin = own.get(name.removeprefix("module."))
        if twin is not None:
            found += [
                f"{attribute} of '{name}' is {theirs!r} in the file and {ours!r} in the network"
                for attribute, theirs, ours in _compared(module, twin)
                if theirs != ours
            ]
    return tuple(found)


def _compared(module: Inert, twin: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    state = {k: v for k, v in module.state.items() if isinstance(k, str)}  # a damaged file may have others
    if is_layer_name(module.name):
        yield "class", module.name.rpartition(".")[2], type(twin).__name__
        for key, value in state.items():
            mine = getattr(twin, key, None)
            if not key.startswith("_") and key not in IDLE and isinstance(value, int | float | str | tuple):
                yield key, value, mine
    specification = _specification(module)
    own = getattr(twin, "spec", None)
    for key, value in specification.items():
        if isinstance(value, bool | int | float | str):
            mine = getattr(own, key, None)
            yield key, value, getattr(mine, "value", mine)
    for key, value in state.items() if not specification else ():
        if isinstance(twin, GroupStdNorm2d) and "group" in key and type(value) is int:
            yield key, value, twin.groups
        elif isinstance(twin, GroupStdNorm2d) and key == "eps":
            yield key, value, twin.eps
        elif isinstance(twin, ReferenceSRU) and ("thres" in key or "gate_t" in key) and type(value) is float:
            yield key, value, twin.spec.threshold


def _specification(module: Inert) -> dict[str, Any]:
    """The fields of the SRUSpec or CRUSpec that a pickled reference unit carries."""
    spec = module.state.get("spec")
    kind = SPECS.get(spec.name) if isinstance(spec, Inert) else None
    stored = getattr(spec, "state", None)
    if kind is None or not isinstance(stored, list | tuple):
        return {}
    names = [f.name for f in fields(kind)]
    return {n: _plain(v) for n, v in zip(names, stored, strict=False)}


def _plain(value: Any) -> Any:
    """An enum was pickled as a call of its class with its value."""
    if isinstance(value, Inert):
        arguments = value.arguments[0]
        return arguments[0] if arguments else None
    return value
