"""trace: :class:`LoweredModel` -> :class:`TracedGraph`, through torch.export and torch.onnx.

Every node is named after the module it came from, so that reports can speak in the user's module paths.
While tracing, Python's builtin ``sum`` over a tensor becomes one ReduceSum instead of C scalar additions:
code that is not recognised but divides by ``sum(self.gn.weight)`` otherwise unrolls to tens of thousands of
nodes (24,526 for a ResNet-50) and minutes of export.
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import onnx
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_flatten_with_path

from scconv_deploy.artifacts import LoweredModel, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Precision
from scconv_deploy.errors import InputError
from scconv_deploy.graph.expand import expand_blocks
from scconv_deploy.graph.io_types import set_io_types
from scconv_deploy.graph.names import rename_nodes, strip_metadata
from scconv_deploy.inputs import UNBOUNDED, example_tensors, forward_names, reason, run_once
from scconv_deploy.quiet import quiet_exporter
from scconv_deploy.scconv.emit import can_emit
from scconv_deploy.scconv.operator import with_block_operators
from scconv_deploy.scconv.typed import TORCH_TYPES, typed_inputs
from scconv_deploy.threads import threads_for

DTYPE_NAMES = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.BF16: "bfloat16"}


def run(lowered: LoweredModel, inputs: tuple[TensorSpec, ...], config: ExportConfig) -> TracedGraph:
    """Trace at the optimum shapes, with dynamic axes as ``inputs`` says.

    The graph computes in ``lowered.precision``; its floating inputs and outputs, in the file and in the
    returned specifications, have the type ``config.io_dtype``.

    Raises:
        InputError: the model does not run on, or cannot be traced with, these inputs.
    """
    given = example_tensors(inputs, config.seed, tracing_shapes(inputs))
    example = typed_inputs(given, TORCH_TYPES[lowered.precision])
    with threads_for(t.numel() for t in example):
        results = run_once(lowered.module, example, inputs)
    output_names = _unique(_names_of_outputs(lowered.module, results), taken=[s.name for s in inputs])
    # A deep copy would double the weights' memory; the swap shares them and leaves the deploy modules alone.
    traceable = with_block_operators(shallow_copy(lowered.module), can_emit)
    model = _to_onnx(traceable, example, inputs, output_names, config.opset)
    expand_blocks(model)
    rename_nodes(model)
    strip_metadata(model)
    set_io_types(model, config.io_dtype)
    return TracedGraph(
        model=model,
        inputs=tuple(_outside(spec, config.io_dtype) for spec in inputs),
        outputs=_output_specs(model),
        opset=config.opset,
        block_paths=lowered.block_paths,
        notes=lowered.notes,
    )


def _outside(spec: TensorSpec, io_dtype: Precision) -> TensorSpec:
    floating = getattr(torch, spec.dtype).is_floating_point
    return replace(spec, dtype=DTYPE_NAMES[io_dtype]) if floating else spec


def tracing_shapes(inputs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """Optimum shapes with dynamic axes of size 1 raised to 2: torch.export treats 0 and 1 as constants."""
    shapes = {}
    for spec in inputs:
        shape = list(spec.optimum)
        for axis, symbol in enumerate(spec.shape):
            if isinstance(symbol, str) and shape[axis] < 2 <= spec.maximum[axis]:
                shape[axis] = 2 * spec.multiple_of.get(axis, 1)
        shapes[spec.name] = tuple(shape)
    return shapes


def dynamic_shapes(inputs: Sequence[TensorSpec]) -> tuple[dict[int, Any], ...]:
    """``torch.export`` dimensions; the same symbol on two inputs is the same dimension."""
    known: dict[str, Any] = {}
    result = []
    for spec in inputs:
        axes: dict[int, Any] = {}
        for axis, symbol in enumerate(spec.shape):
            if not isinstance(symbol, str):
                continue
            multiple = spec.multiple_of.get(axis, 1)
            if symbol not in known:
                lo, hi = spec.minimum[axis] // multiple, spec.maximum[axis]
                top = None if hi >= UNBOUNDED else hi // multiple
                name = symbol if multiple == 1 else f"{symbol}_by_{multiple}"
                dim = torch.export.Dim(name, min=lo, max=top)
                known[symbol] = dim if multiple == 1 else multiple * dim
            axes[axis] = known[symbol]
        result.append(axes)
    return tuple(result)


@contextlib.contextmanager
def tensor_aware_sum() -> Iterator[None]:
    """Within this context, builtin ``sum(tensor)`` is ``tensor.sum(0)``; all else is unchanged."""
    original = builtins.sum

    def patched(iterable: Any, /, start: Any = 0) -> Any:
        if isinstance(iterable, torch.Tensor) and iterable.ndim >= 1 and iterable.shape[0] > 0:
            total = iterable.sum(0)
            return total if isinstance(start, int) and start == 0 else start + total
        return original(iterable, start)

    builtins.sum = patched
    try:
        yield
    finally:
        builtins.sum = original


def shallow_copy(module: nn.Module) -> nn.Module:
    """A copy of the module tree that shares every parameter and buffer; shared modules stay shared."""
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        memo[id(tensor)] = tensor
    return copy.deepcopy(module, memo)


def _to_onnx(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Sequence[TensorSpec],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    shapes = dynamic_shapes(inputs)
    with torch.no_grad(), tensor_aware_sum(), quiet_exporter():
        try:
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=opset,
                input_names=[s.name for s in inputs],
                output_names=list(output_names),
                dynamic_shapes=_by_argument(module, shapes) if any(shapes) else None,
                verbose=False,
            )
        except Exception as error:
            raise InputError(f"the model cannot be traced: {reason(error.__cause__ or error)}") from error
    if program is None:
        raise InputError("the model cannot be traced: torch.onnx returned nothing")
    model = cast(onnx.ModelProto, program.model_proto)
    _check_opset(model, opset)
    _name_symbols(model, _symbols(program.exported_program, shapes))
    return model


def _symbols(program: ExportedProgram | None, shapes: tuple[dict[int, Any], ...]) -> dict[str, str]:
    """torch's own symbols -> the names of the dimensions that inputs are multiples of (``s42`` -> ``height_by_4``).

    The exporter gives names only to axes that are one plain dimension, and prints the rest as ``2*s42``.
    """
    if program is None:
        return {}
    nodes = {node.name: node for node in program.graph.nodes}
    given = [nodes[name].meta["val"] for name in program.graph_signature.user_inputs if name in nodes]
    names = {}
    for value, axes in zip(given, shapes, strict=False):
        for axis, dimension in axes.items():
            size = value.shape[axis]
            symbols = size.node.expr.free_symbols if isinstance(size, torch.SymInt) else ()
            root = getattr(dimension, "root", dimension)
            names.update({str(symbol): str(root.__name__) for symbol in symbols})
    return names


def _name_symbols(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    graph = model.graph
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\b\w+\b", lambda m: names.get(m[0], m[0]), dim.dim_param)


def _by_argument(module: nn.Module, shapes: tuple[dict[int, Any], ...]) -> tuple[Any, ...]:
    """torch.export counts arguments of forward: ``*inputs``, as programs have it, is one that holds them all."""
    return shapes if forward_names(module) else (shapes,)


def _check_opset(model: onnx.ModelProto, opset: int) -> None:
    built = {o.domain: o.version for o in model.opset_import}.get("", 0)
    if built != opset:
        raise InputError(
            f"opset {opset} was asked for, but this model could only be written in opset {built}; "
            f"use --opset {built}"
        )


def _names_of_outputs(module: nn.Module, results: object) -> list[str]:
    """A program's own output names, where the module was read from one; else by structure."""
    found = _output_names(results)
    own = getattr(module, "output_names", None)
    return list(own) if isinstance(own, tuple) and len(own) == len(found) else found


def _output_names(results: object) -> list[str]:
    """One name per output tensor: dictionary keys where there are any, else ``output`` or ``output_0``..."""
    leaves, _ = tree_flatten_with_path(results)
    tensors = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise InputError(
            f"the model returns a {type(results).__name__} without tensors; nothing can be exported"
        )
    if len(tensors) != len(leaves):
        raise InputError("the model returns values that are not tensors; return tensors only")
    if len(tensors) == 1 and not tensors[0][0]:
        return ["output"]
    return ["_".join(_key(k) for k in path) or "output" for path, _ in tensors]


def _unique(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names in one ONNX graph are unique: an output called like an input or another output gets a suffix."""
    found: list[str] = []
    for name in names:
        made, count = name, 1
        while made in taken or made in found:
            count += 1
            made = f"{name}_out" if count == 2 else f"{name}_out{count}"
        found.append(made)
    return found


def _key(entry: object) -> str:
    for attribute in ("key", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return f"output_{entry.idx}" if hasattr(entry, "idx") else "output"


def _output_specs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    specs = []
    for value in model.graph.output:
        kind = value.type.tensor_type
        shape: list[int | str] = [
            d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim
        ]
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        specs.append(TensorSpec(value.name, dtype, tuple(shape)))
    return tuple(specs)
