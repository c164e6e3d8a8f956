"""inspect: a file from anyone -> :class:`Inspection`; nothing in it is executed or imported.

Checkpoints are read as data, without torch, so that an answer takes a fraction of a second.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scconv_deploy.artifacts import Inspection, TensorSpec
from scconv_deploy.checkpoint.archive import outline
from scconv_deploy.checkpoint.facts import Inert
from scconv_deploy.checkpoint.kinds import OWN_FORMAT, Kind, kind_of
from scconv_deploy.checkpoint.safe_tensors import read_header
from scconv_deploy.checkpoint.shapes import families_allowed, scconv_prefixes
from scconv_deploy.checkpoint.state import Chosen, choose_state, modules, strip_prefixes, tensors
from scconv_deploy.checkpoint.trust import is_layer_name, is_own_name, refuse_system_calls, trust_options
from scconv_deploy.checkpoint.zoo_shapes import identify
from scconv_deploy.errors import InputError
from scconv_deploy.programs import describe
from scconv_deploy.workspace import sha256

USER_FACTORY = "--factory package.module:callable"


def run(path: Path) -> Inspection:
    """Look into a file.

    Raises:
        InputError: it does not exist, is damaged or hostile, or is no model of a known format.
    """
    if (path / "manifest.json").is_file():
        raise InputError(f"{path} is a bundle; look at it with scconv-verify {path}, or open its report.html")
    kind = kind_of(path)
    if kind is Kind.UNKNOWN:
        raise InputError(
            f"{path} is no model of a format known here: not a PyTorch checkpoint, TorchScript, .pt2, "
            "safetensors or ONNX file, by its content"
        )
    found = Inspection(str(path), kind.value, sha256(path), path.stat().st_size)
    if kind in (Kind.TORCH_ZIP, Kind.TORCH_LEGACY):
        return _checkpoint(found, path, kind)
    if kind is Kind.SAFETENSORS:
        facts = {name: entry.fact for name, entry in read_header(path)[0].items()}
        found = _weights(found, strip_prefixes(dict(facts)))
        return replace(found, export_command=f"{_export(path, facts)} {_factory(facts)}")
    if kind is Kind.TORCHSCRIPT:
        return describe.torchscript(found, path)
    return (
        describe.exported(found, path) if kind is Kind.EXPORTED_PROGRAM else describe.onnx_model(found, path)
    )


def _checkpoint(found: Inspection, path: Path, kind: Kind) -> Inspection:
    read = outline(path, kind)
    refuse_system_calls(path, read.needs)
    needs = tuple(n for n in read.needs if not (is_layer_name(n) or is_own_name(n)))
    chosen = choose_state(read.content)
    state = chosen.state if chosen else strip_prefixes(tensors(read.content))
    found = replace(_weights(found, state), needs_classes=needs)
    if isinstance(read.content, Mapping) and read.content.get("format") == OWN_FORMAT:
        return replace(
            _own_format(found, read.content),
            export_command=f"scconv-export {shlex.quote(str(path))} --target onnx",
        )
    if chosen is None:
        note = "neither a module nor a state_dict is in it, so there is nothing to export"
        return replace(found, kind=f"other data, {found.kind}", notes=(*found.notes, note))
    if chosen.note:
        found = replace(found, notes=(chosen.note, *found.notes))
    if chosen.module is not None:
        return _module(found, path, chosen, chosen.module)
    return replace(
        found,
        kind=f"state_dict, {found.kind}",
        export_command=f"{_export(path, state)} {_factory(state)}",
    )


def _module(found: Inspection, path: Path, chosen: Chosen, module: Inert) -> Inspection:
    """A pickled module: which layers it is made of, and the two ways to export it."""
    layers = Counter(m.name.rpartition(".")[2] for _, m in modules(module) if m is not module)
    shown = ", ".join(f"{count} {name}" for name, count in layers.most_common(12))
    notes = [f"layers: {shown}"] if shown else []
    trust = trust_options(found.needs_classes)
    export = _export(path, chosen.state)
    command = f"{export} {trust}".rstrip()
    factory = _factory(chosen.state)
    if trust and factory != USER_FACTORY:
        notes.append(f"its weights fit a network of the zoo; without its code: {export} {factory}")
    elif trust:
        notes.append(f"without running its code: {USER_FACTORY} takes only the weights")
    return replace(
        found,
        kind=f"whole pickled module, {found.kind}",
        architecture=module.name,
        export_command=command,
        notes=(*found.notes, *notes),
    )


def _export(path: Path, state: Mapping[str, Any]) -> str:
    """The command to begin with. Most images have three channels; the first 4-d weight says otherwise."""
    weight = next((t.shape for t in state.values() if len(t.shape) == 4), None)
    channels = int(weight[1]) if weight else 3
    return f"scconv-export {shlex.quote(str(path))} --target onnx --input-shape 1x{channels}x224x224"


def _factory(state: Mapping[str, Any]) -> str:
    """The zoo network that has these weights, with the families left open; else the form to write."""
    known = identify({name: tuple(t.shape) for name, t in state.items()})
    return USER_FACTORY if known is None else str(known)


def _weights(found: Inspection, named: Mapping[str, Any]) -> Inspection:
    shapes = {name: tuple(t.shape) for name, t in named.items()}
    blocks = scconv_prefixes(shapes)
    notes = found.notes
    if blocks:
        allowed = families_allowed(shapes, blocks)
        habit = f"names and shapes are those of family {' or '.join(allowed)}, but " if allowed else ""
        notes += (
            f"{habit}weights alone do not tell the SCConv variant (gate kind, threshold, groups and eps are in "
            "no tensor); the module's own forward decides, and the export certifies it",
        )
    return replace(
        found,
        tensors=len(named),
        parameters=sum(t.numel() for t in named.values()),
        dtypes=tuple(sorted({str(t.dtype).removeprefix("torch.") for t in named.values()})),
        scconv_like=blocks,
        notes=notes,
    )


def _own_format(found: Inspection, content: Mapping[str, Any]) -> Inspection:
    try:
        inputs = tuple(
            TensorSpec(str(i["name"]), str(i["dtype"]), tuple(i["shape"])) for i in content.get("inputs", ())
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{found.path} says it is scconv-deploy/1 but its inputs are damaged: {error}"
        ) from error
    return replace(
        found,
        kind=f"scconv-deploy/1 checkpoint, {found.kind}",
        architecture=str(content.get("architecture")),
        inputs=inputs,
    )
