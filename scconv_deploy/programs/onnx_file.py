"""An ONNX file -> :class:`SourceModel`: read safely, run by torch, proved step by step, its blocks cut out.

The module is a tree of ONNX programs in which everything that may be an SCConv block is a child of its own
(``regions``, ``network``). Before it is used, every operator is compared with ONNX Runtime on this very
model (``check``). The file itself, run by ONNX Runtime without graph optimisation, stays what the artifact is
verified against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import shape_inference

from scconv_deploy.artifacts import SourceModel, TensorSpec
from scconv_deploy.config import ExportConfig, ShapeRange
from scconv_deploy.contracts import Runner
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import UNBOUNDED, example_tensors
from scconv_deploy.interpret.program import OnnxProgram, unsupported
from scconv_deploy.programs.check import check_import
from scconv_deploy.programs.network import network
from scconv_deploy.programs.reading import check_model, read_model
from scconv_deploy.programs.regions import find_regions
from scconv_deploy.programs.widen import widen
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.workspace import sha256

KIND = "ONNX model"
UNKNOWN = 0
"""Optimum of a free axis for which the program names no number."""
TRIED_SIZES = (64, 224, 32, 640)
"""Heights and widths tried for the import check where nobody gave one."""


def load(path: Path, config: ExportConfig) -> SourceModel:
    """Read a file.

    Raises:
        InputError: it is damaged, hostile, or uses what cannot be read; in words.
    """
    return from_model(read_model(path), str(path), KIND, config, digest=sha256(path))


def from_model(
    model: onnx.ModelProto,
    origin: str,
    kind: str,
    config: ExportConfig,
    *,
    digest: str | None = None,
    original: Runner | None = None,
    notes: Sequence[str] = (),
) -> SourceModel:
    """Turn a model in memory into a source.

    Args:
        model: all tensors inside; it is not modified.
        origin: file name, for messages.
        kind: in words.
        config: its shapes and seed choose the input of the import check.
        digest: SHA-256 of the file.
        original: what the artifact is verified against; by default the model itself in ONNX Runtime.
        notes: to be passed on.

    Raises:
        InputError: the model cannot be read, or an operator of it is read wrongly.
    """
    check_model(model, origin)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    model, widened = widen(model)
    said = [*notes, *([f"{origin}: {widened}"] if widened else [])]
    refused = unsupported(model)
    if refused:
        raise InputError(
            f"{origin} has operators that cannot be read: {'; '.join(refused[:8])}; export it again without them"
        )
    model = _with_shapes(model)
    inputs = declared_inputs(model, origin)
    module, uncut = network(model, find_regions(model))
    said += [f"{path} may be an SCConv block, but cannot be cut out of the graph" for path in uncut]
    _prove(model, module, inputs, config)
    runner = original or OnnxRunner(model.SerializeToString(), optimise=False)
    return SourceModel(module, origin, kind, digest, None, inputs, tuple(said), runner)


def declared_inputs(model: onnx.ModelProto, origin: str) -> tuple[TensorSpec, ...]:
    """The inputs a program takes: fixed axes as numbers, free ones as symbols from 1 to unbounded.

    Raises:
        InputError: there are none, or one declares no tensor with a known number of axes.
    """
    stored = {t.name for t in model.graph.initializer}
    specs = []
    for value in model.graph.input:
        if value.name in stored:
            continue
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise InputError(f"input '{value.name}' of {origin} declares no shape; export it again with one")
        kind = value.type.tensor_type
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape = tuple(
            d.dim_value if d.dim_value > 0 else (d.dim_param or f"{value.name}_axis{axis}")
            for axis, d in enumerate(kind.shape.dim)
        )
        low, middle, high = (
            tuple(d if isinstance(d, int) else free for d in shape) for free in (1, UNKNOWN, UNBOUNDED)
        )
        specs.append(TensorSpec(value.name, dtype, shape, low, middle, high))
    if not specs:
        raise InputError(f"{origin} takes no inputs, so there is nothing to deploy")
    return tuple(specs)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise InputError(
            f"the shapes inside the ONNX model contradict each other: {str(error).splitlines()[0]}"
        ) from error


def _prove(
    model: onnx.ModelProto, module: OnnxProgram, inputs: Sequence[TensorSpec], config: ExportConfig
) -> None:
    """The import check on the smallest input that is known to be allowed."""
    free = any(isinstance(d, str) for s in inputs for d in s.shape[1:])
    for attempt, size in enumerate(TRIED_SIZES if free else (1,), 1):
        arrays = _arrays(inputs, config, size)
        try:
            check_import(model, module, arrays)
        except InputError as error:
            # Only a size that ONNX Runtime itself refuses is no evidence about our reading.
            if "refused the inputs" not in str(error) or attempt >= len(TRIED_SIZES) or not free:
                raise
            continue
        return


def _arrays(inputs: Sequence[TensorSpec], config: ExportConfig, size: int) -> dict[str, np.ndarray]:
    given = {r.name or inputs[0].name: r for r in config.shapes}
    found: dict[str, int] = {}
    concrete = []
    for spec in inputs:
        wanted: ShapeRange | None = given.get(spec.name)
        fits = wanted is not None and len(wanted.minimum) == len(spec.shape)
        shape = tuple(
            d
            if isinstance(d, int)
            else found.setdefault(d, wanted.minimum[axis] if wanted and fits else (size if axis else 1))
            for axis, d in enumerate(spec.shape)
        )
        concrete.append(replace(spec, shape=shape, optimum=shape))
    tensors = example_tensors(concrete, config.seed)
    return {s.name: t.numpy() for s, t in zip(concrete, tensors, strict=True)}
