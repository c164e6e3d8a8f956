"""inspect: a file from anyone -> :class:`Inspection`; nothing in it is executed or imported."""

from __future__ import annotations

import json
import shlex
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from scconv_deploy.artifacts import Inspection, TensorSpec
from scconv_deploy.checkpoint.inert import load_inert, tensors
from scconv_deploy.checkpoint.kinds import Kind, kind_of
from scconv_deploy.checkpoint.pickled import Inert
from scconv_deploy.checkpoint.read import is_torch_layer, needed_globals
from scconv_deploy.checkpoint.shapes import scconv_prefixes
from scconv_deploy.checkpoint.state import strip_prefixes
from scconv_deploy.errors import InputError
from scconv_deploy.workspace import sha256

ALARMING = ("os", "posix", "nt", "subprocess", "sys", "builtins", "shutil", "socket", "runpy", "importlib")
"""Modules whose functions have no business in a model file."""


def run(path: Path) -> Inspection:
    """Look into a file.

    Raises:
        InputError: it does not exist or is damaged.
    """
    if (path / "manifest.json").is_file():
        raise InputError(f"{path} is a bundle; look at it with scconv-verify {path}, or open its report.html")
    kind = kind_of(path)
    found = Inspection(str(path), kind.value, sha256(path), path.stat().st_size)
    if kind in (Kind.TORCH_ZIP, Kind.TORCH_LEGACY):
        return _checkpoint(found, path)
    if kind is Kind.SAFETENSORS:
        return _safetensors(found, path)
    if kind is Kind.ONNX:
        return _onnx(found, path)
    notes = {
        Kind.TORCHSCRIPT: "TorchScript stores compiled code; export the Python model it was made from",
        Kind.EXPORTED_PROGRAM: "a torch.export archive; export the Python model it was made from",
    }
    note = notes.get(kind, "its first bytes match no model format known here")
    return replace(found, notes=(note,))


def _checkpoint(found: Inspection, path: Path) -> Inspection:
    needed = tuple(n for n in needed_globals(path) if not is_torch_layer(n))
    notes = [
        f"unpickling it would call {name}: do not load this file anywhere"
        for name in needed
        if name.partition(".")[0] in ALARMING
    ]
    content = load_inert(path)
    found = _weights(found, strip_prefixes(tensors(content)))
    if isinstance(content, Mapping) and content.get("format") == "scconv-deploy/1":
        found = _own_format(found, content)
        command = f"scconv-export {shlex.quote(str(path))} --target onnx"
    elif isinstance(content, Inert) or _has_module(content):
        modules = sorted({n.rpartition(".")[0] for n in needed})
        trust = " ".join(f"--trust {m}" for m in modules)
        found = replace(found, kind=f"whole pickled module, {found.kind}")
        command = (
            f"scconv-export {shlex.quote(str(path))} --target onnx --input-shape 1x3x224x224 {trust}".rstrip()
        )
    else:
        found = replace(found, kind=f"state_dict, {found.kind}")
        command = (
            f"scconv-export {shlex.quote(str(path))} --target onnx --input-shape 1x3x224x224 "
            "--factory package.module:callable"
        )
    return replace(
        found,
        needs_classes=needed,
        export_command=None if notes else command,
        notes=(*found.notes, *notes),
    )


def _weights(found: Inspection, named: Mapping[str, Any]) -> Inspection:
    shapes = {name: tuple(t.shape) for name, t in named.items()}
    blocks = scconv_prefixes(shapes)
    notes = found.notes
    if blocks:
        notes += (
            "weights alone do not tell the SCConv variant (gate kind, threshold, groups and eps are in no "
            "tensor); the module's own forward decides, and the export certifies it",
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
    inputs = tuple(
        TensorSpec(str(i["name"]), str(i["dtype"]), tuple(i["shape"])) for i in content.get("inputs", ())
    )
    return replace(
        found,
        kind=f"scconv-deploy/1 checkpoint, {found.kind}",
        architecture=str(content.get("architecture")),
        inputs=inputs,
    )


def _has_module(content: Any) -> bool:
    return isinstance(content, Mapping) and any(isinstance(v, Inert) for v in content.values())


def _safetensors(found: Inspection, path: Path) -> Inspection:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    entries = {k: v for k, v in header.items() if k != "__metadata__"}
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    count = 0
    for shape in shapes.values():
        size = 1
        for extent in shape:
            size *= extent
        count += size
    return replace(
        found,
        tensors=len(entries),
        parameters=count,
        dtypes=tuple(sorted({str(e["dtype"]).lower() for e in entries.values()})),
        scconv_like=scconv_prefixes(shapes),
        export_command=f"scconv-export {shlex.quote(str(path))} --target onnx --input-shape 1x3x224x224 "
        "--factory package.module:callable",
    )


def _onnx(found: Inspection, path: Path) -> Inspection:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} begins like an ONNX model but cannot be parsed: {error}") from error
    weights = {t.name for t in model.graph.initializer}
    inputs = tuple(_value(v) for v in model.graph.input if v.name not in weights)
    opset = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    return replace(
        found,
        tensors=len(weights),
        inputs=inputs,
        notes=(
            f"{len(model.graph.node)} nodes, opset {opset}",
            "already exported: this version exports PyTorch",
        ),
    )


def _value(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim)
    return TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)
