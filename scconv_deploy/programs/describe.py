"""A program file (TorchScript, ``.pt2``, ONNX) -> what ``scconv-inspect`` says of it, without torch."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scconv_deploy.artifacts import Inspection, TensorSpec
from scconv_deploy.checkpoint.facts import Inert, TensorFact
from scconv_deploy.checkpoint.shapes import scconv_prefixes
from scconv_deploy.errors import InputError, first_line
from scconv_deploy.programs import audit_exported, audit_torchscript

if TYPE_CHECKING:
    import onnx

MAX_DEPTH = 64
CERTIFIED = "these places have the shapes of SCConv blocks; the export certifies what they compute"


def torchscript(found: Inspection, path: Path) -> Inspection:
    """Classes, operators and tensors of a TorchScript archive.

    Raises:
        InputError: damaged, or its code does more than compute.
    """
    audited = audit_torchscript.audit(path)
    facts = dict(_script_tensors(audited.content, "", ()))
    constants = [c for c in _flat(audited.constants) if isinstance(c, TensorFact)]
    facts |= {f"CONSTANTS.c{i}": c for i, c in enumerate(constants)}
    called = sum(audited.operators.values())
    top = ", ".join(f"{n} {name.partition('::')[2]}" for name, n in audited.operators.most_common(8))
    notes = [
        f"{len(audited.sources)} source files, {len(audited.classes)} classes, {called} operator calls ({top})",
        "its code was read and not run: no operator in it reaches files, processes or the network",
        "TorchScript does not say its input shapes: give the one it takes with --input-shape",
    ]
    command = f"scconv-export {shlex.quote(str(path))} --target onnx --input-shape 1x3x224x224"
    root = audited.content.name if isinstance(audited.content, Inert) else ""
    found = _counted(found, facts, notes)
    return replace(found, architecture=root.removeprefix("__torch__.") or None, export_command=command)


def exported(found: Inspection, path: Path) -> Inspection:
    """Inputs with their ranges, operators and tensors of a ``.pt2`` archive.

    Raises:
        InputError: damaged, or it holds what would run.
    """
    audited = audit_exported.audit(path)
    graph = audited.program["graph_module"]["graph"]
    facts = {
        name: TensorFact(p.shape, audit_exported.DTYPES.get(p.dtype, "?"))
        for tensors in audited.tensors.values()
        for name, p in tensors.items()
    }
    called = Counter(
        str(n["target"]).removeprefix("torch.ops.aten.").partition(".")[0] for n in graph["nodes"]
    )
    top = ", ".join(f"{n} {name}" for name, n in called.most_common(8))
    pickled = ", ".join(audited.pickled)
    notes = [
        f"written by torch {audited.program.get('torch_version', 'of an unknown version')}; "
        f"{len(graph['nodes'])} operator calls ({top})",
        f"it carries pickled data ({pickled}), which is never unpickled"
        if pickled
        else "it carries no pickled data",
        *audited.notes,
    ]
    found = _counted(found, facts, notes)
    command = f"scconv-export {shlex.quote(str(path))} --target onnx"
    return replace(found, inputs=_inputs(audited.program), export_command=command)


def onnx_model(found: Inspection, path: Path) -> Inspection:
    """Inputs, operators, tensors and SCConv-like regions of an ONNX file; external tensors are not read.

    Raises:
        InputError: it cannot be parsed.
    """
    import onnx

    from scconv_deploy.programs.regions import find_regions

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(
            f"{path} begins like an ONNX model but cannot be parsed: {first_line(error)}"
        ) from error
    weights = {t.name: t for t in model.graph.initializer}
    inputs = tuple(_value(v) for v in model.graph.input if v.name not in weights)
    outputs = ", ".join(f"{o.name} {o.dtype} {o.shape}" for o in map(_value, model.graph.output))
    external = sorted({e.value for t in weights.values() for e in t.external_data if e.key == "location"})
    types = {onnx.TensorProto.DataType.Name(t.data_type).lower(): None for t in weights.values()}
    regions = find_regions(_with_shapes(model))
    notes = [*_operators(model), f"outputs: {outputs}"]
    notes += [f"its tensors lie in {', '.join(external[:3])}"] if external else []
    notes += [CERTIFIED] if regions else []
    return replace(
        found,
        tensors=len(weights),
        parameters=sum(_numel(t.dims) for t in weights.values()),
        dtypes=tuple(sorted(_numpy_name(t) for t in types)),
        inputs=inputs,
        scconv_like=tuple(f"{r.path} ({r.kind})" for r in regions),
        export_command=f"scconv-export {shlex.quote(str(path))} --target onnx",
        notes=tuple(notes),
    )


def _operators(model: onnx.ModelProto) -> list[str]:
    called = Counter(n.op_type for n in model.graph.node)
    opset = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
    top = ", ".join(f"{n} {name}" for name, n in called.most_common(8))
    by = (
        f", written by {model.producer_name} {model.producer_version}".rstrip() if model.producer_name else ""
    )
    notes = [f"{len(model.graph.node)} nodes ({top}), opset {opset}{by}"]
    own = sorted({f"{n.domain}::{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    defined = {f"{f.domain}::{f.name}" for f in model.functions}
    if own:
        told = " (defined in the file)" if set(own) <= defined else ""
        notes.append(f"operators outside the ONNX standard: {', '.join(own[:6])}{told}")
    return notes


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Shapes of inner values, by a model without its weights' bytes: inference is slow to copy them."""
    import onnx

    slim = onnx.ModelProto()
    slim.CopyFrom(model) if model.ByteSize() < 8 << 20 else slim.MergeFrom(_without_weights(model))
    try:
        return onnx.shape_inference.infer_shapes(slim)
    except Exception:  # noqa: BLE001 - regions are then found by what the file itself declares
        return model


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    slim = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    slim.functions.extend(model.functions)
    graph = slim.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if tensor.ByteSize() < 1 << 16:
            graph.initializer.append(tensor)
        else:
            # Known by type and shape only.
            graph.initializer.append(
                onnx.TensorProto(
                    name=tensor.name,
                    dims=tensor.dims,
                    data_type=tensor.data_type,
                    data_location=onnx.TensorProto.EXTERNAL,
                )
            )
    return slim


def _counted(found: Inspection, facts: Mapping[str, TensorFact], notes: list[str]) -> Inspection:
    blocks = scconv_prefixes({name: f.shape for name, f in facts.items()})
    return replace(
        found,
        tensors=len(facts),
        parameters=sum(f.numel() for f in facts.values()),
        dtypes=tuple(sorted({f.dtype for f in facts.values()})),
        scconv_like=blocks,
        notes=(*notes, CERTIFIED) if blocks else tuple(notes),
    )


def _script_tensors(value: Any, name: str, above: tuple[int, ...]) -> Iterator[tuple[str, TensorFact]]:
    if isinstance(value, TensorFact):
        yield name, value
    elif isinstance(value, Inert) and id(value) not in above and len(above) < MAX_DEPTH:
        state = getattr(value, "state", None)
        for key, item in state.items() if isinstance(state, dict) else ():
            yield from _script_tensors(item, f"{name}.{key}" if name else str(key), (*above, id(value)))


def _flat(value: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        for item in value:
            yield from _flat(item, depth + 1)
    else:
        yield value


def _inputs(program: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    module = program["graph_module"]
    found = []
    for spec in module["signature"]["input_specs"]:
        name = spec.get("user_input", {}).get("arg", {}).get("as_tensor", {}).get("name")
        meta = module["graph"]["tensor_values"].get(name)
        if meta is not None:
            ranges = [_range(size, program.get("range_constraints", {})) for size in meta["sizes"]]
            low, middle, high = (tuple(r[1][i] for r in ranges) for i in range(3))
            dtype = audit_exported.DTYPES.get(meta["dtype"], "?")
            found.append(TensorSpec(name, dtype, tuple(r[0] for r in ranges), low, middle, high))
    return tuple(found)


def _range(size: Mapping[str, Any], bounds: Mapping[str, Any]) -> tuple[int | str, tuple[int, int, int]]:
    """Symbol or number; minimum, the size it was exported with, maximum."""
    if "as_int" in size:
        return size["as_int"], (size["as_int"],) * 3
    text = str(size["as_expr"]["expr_str"])
    symbol = text.split("'")[1] if text.startswith("Symbol('") else text
    hint = (size["as_expr"].get("hint") or {}).get("as_int", 1)
    told = bounds.get(symbol, {})
    low, high = told.get("min_val"), told.get("max_val")
    return symbol, (max(1, low or 1), hint, high if high is not None else 2**31 - 1)


def _value(value: onnx.ValueInfoProto) -> TensorSpec:
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim)
    try:
        dtype = str(tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, ValueError, TypeError):
        dtype = "?"
    return TensorSpec(value.name, dtype, shape)


def _numpy_name(name: str) -> str:
    return {"float": "float32", "double": "float64"}.get(name, name)


def _numel(dims: Any) -> int:
    count = 1
    for d in dims:
        count *= max(0, int(d))
    return count
