"""What the user named -> candidates: backends that a worker can open, each with its inputs and its size.

* A bundle gives one candidate, with the runtime it was built for.
* A plain ``.onnx`` file gives one, in ONNX Runtime as it is.
* A model gives several; see :mod:`scconv_deploy.bench.models`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from scconv_deploy.artifacts import Recognition, TensorSpec
from scconv_deploy.bench.openers import Opener, RunnerOpener
from scconv_deploy.bench.twin import PlainTwin
from scconv_deploy.config import ShapeRange, dims
from scconv_deploy.errors import InputError, first_line
from scconv_deploy.inputs import UNBOUNDED, example_tensors
from scconv_deploy.runtime.dtypes import BFLOAT16, numpy_dtype
from scconv_deploy.runtime.manifest import check_hashes, read_manifest

BUNDLE = "bundle"
ONNX_FILE = "onnx"


@dataclass(frozen=True, slots=True)
class Setting:
    """One combination: samples per call, threads of every backend, and the seed of the inputs."""

    batch: int
    threads: int
    seed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One backend, not yet open.

    ``kind`` and ``subject`` as in :class:`~scconv_deploy.measurements.Measurement`. ``opener`` works in any
    process; it is None where only ``local``, which works in this one, exists. ``optional``: where it cannot
    run here, that is a note and no error.
    """

    name: str
    subject: str
    kind: str
    runtime: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    size_bytes: int | None
    opener: Opener | None
    local: Opener | None = None
    optional: bool = True


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What a model was taken apart into, for analyses beyond the clock.

    ``onnx`` maps a kind (``naive``, ``plain``, ``ours``) to its file, which lives as long as the run.
    """

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    recognition: Recognition
    twin: PlainTwin | None
    onnx: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subject's candidates, and a sentence for each way of running it that there is not."""

    text: str
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    model: ModelParts | None = None


def bundle_subject(
    text: str,
    shapes: Sequence[ShapeRange],
    provider: str | None = None,
    *,
    name: str | None = None,
    kind: str = BUNDLE,
) -> Prepared:
    """Read and check a bundle's folder; the shapes asked for replace its optima.

    Raises:
        InputError: not a bundle, or its files were altered.
    """
    path = Path(text)
    manifest = read_manifest(path)
    check_hashes(path, manifest)
    runtime = str(manifest["runtime"])
    inputs = tuple(_spec(entry, shapes) for entry in manifest["inputs"])
    stored = manifest["files"]
    artifact = str(manifest["artifact"])
    extra = [n for n in stored if n not in (artifact, "samples.npz", "report.html")]
    precision = manifest.get("precision")
    candidate = Candidate(
        name=name or path.resolve().name,
        subject=text,
        kind=kind,
        runtime=runtime,
        precision=str(precision.get("built")) if isinstance(precision, Mapping) else "unknown",
        inputs=inputs,
        size_bytes=sum((path / n).stat().st_size for n in (artifact, *extra)),
        opener=RunnerOpener(runtime, path / artifact, provider if runtime == "onnxruntime" else None),
        optional=provider is None,
    )
    return Prepared(text, (candidate,))


def onnx_subject(text: str, shapes: Sequence[ShapeRange], provider: str | None = None) -> Prepared:
    """A plain ONNX file, as it is.

    Raises:
        InputError: it cannot be read, or leaves axes free that neither the batch nor a shape settles.
    """
    path = Path(text)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} is no readable ONNX model: {first_line(error)}") from error
    constants = {t.name for t in model.graph.initializer}
    graph_inputs = [v for v in model.graph.input if v.name not in constants]
    candidate = Candidate(
        name=path.name,
        subject=text,
        kind=ONNX_FILE,
        runtime="onnxruntime",
        precision=_precision(model),
        inputs=tuple(_onnx_input(v, shapes, path) for v in graph_inputs),
        size_bytes=path.stat().st_size + _external_bytes(model, path.parent),
        opener=RunnerOpener("onnxruntime", path, provider),
        optional=provider is None,
    )
    return Prepared(text, (candidate,))


def bench_inputs(specs: tuple[TensorSpec, ...], setting: Setting) -> dict[str, np.ndarray]:
    """Seeded standard-normal inputs; equal specifications give equal inputs, whatever the backend.

    Never constant: zeros let some kernels and denormal handling look faster than real data does.
    """
    shapes = {s.name: (setting.batch, *s.optimum[1:]) if s.optimum else () for s in specs}
    tensors = example_tensors(specs, setting.seed, shapes)
    return {s.name: _array(t) for s, t in zip(specs, tensors, strict=True)}


def _array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype is not torch.bfloat16:
        return np.asarray(tensor.numpy())
    return tensor.float().numpy().astype(numpy_dtype(BFLOAT16))


def refusal(specs: tuple[TensorSpec, ...], batch: int) -> str | None:
    """Why the artifact does not take this batch at these shapes, or None."""
    for spec in specs:
        shape = (batch, *spec.optimum[1:])
        if len(shape) != len(spec.minimum):
            return f"input '{spec.name}' has {len(spec.minimum)} axes, {dims(shape)} has {len(shape)}"
        for axis, size in enumerate(shape):
            lo, hi = spec.minimum[axis], spec.maximum[axis]
            if not lo <= size <= hi:
                allowed = str(lo) if lo == hi else f"{lo} to {hi}"
                return f"input '{spec.name}' takes {allowed} on axis {axis}, not {size}"
            if size % spec.multiple_of.get(axis, 1):
                return f"axis {axis} of input '{spec.name}' must be a multiple of {spec.multiple_of[axis]}"
    return None


def _spec(entry: Mapping[str, Any], shapes: Sequence[ShapeRange]) -> TensorSpec:
    name = str(entry["name"])
    return TensorSpec(
        name=name,
        dtype=str(entry["dtype"]),
        shape=tuple(entry["shape"]),
        minimum=tuple(entry["minimum"]),
        optimum=_wanted(name, shapes) or tuple(entry["optimum"]),
        maximum=tuple(entry["maximum"]),
        multiple_of={int(axis): int(m) for axis, m in entry.get("multiple_of", {}).items()},
    )


def _wanted(name: str, shapes: Sequence[ShapeRange]) -> tuple[int, ...] | None:
    return next((r.optimum for r in shapes if r.name in (None, name)), None)


def _onnx_input(value: onnx.ValueInfoProto, shapes: Sequence[ShapeRange], path: Path) -> TensorSpec:
    tensor = value.type.tensor_type
    axes = tuple(
        int(d.dim_value) if d.HasField("dim_value") else (d.dim_param or f"axis{i}")
        for i, d in enumerate(tensor.shape.dim)
    )
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, TypeError) as error:
        raise InputError(f"input '{value.name}' of {path} has a type NumPy does not hold") from error
    wanted = _wanted(value.name, shapes)
    # The batch comes from --batch, so a free first axis needs no shape.
    missing = [str(a) for i, a in enumerate(axes) if i > 0 and isinstance(a, str)]
    if wanted is None and missing:
        raise InputError(
            f"input '{value.name}' of {path} leaves {', '.join(missing)} free; give its shape, for example "
            f"--input-shape {value.name}:1x3x224x224"
        )
    low = tuple(1 if isinstance(a, str) else a for a in axes)
    high = tuple(UNBOUNDED if isinstance(a, str) else a for a in axes)
    return TensorSpec(value.name, dtype, axes, low, wanted or low, high)


def _precision(model: onnx.ModelProto) -> str:
    """The type most floating weights have; quantised where there are Q/DQ nodes."""
    if any(n.op_type == "QuantizeLinear" for n in model.graph.node):
        return "int8"
    names = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
    }
    sizes: dict[str, int] = {}
    for t in model.graph.initializer:
        if t.data_type in names:
            kind = names[t.data_type]
            sizes[kind] = sizes.get(kind, 0) + int(np.prod(t.dims, dtype=np.int64))
    return max(sizes, key=lambda k: sizes[k]) if sizes else "unknown"


def _external_bytes(model: onnx.ModelProto, folder: Path) -> int:
    files = {
        entry.value
        for t in model.graph.initializer
        if t.data_location == onnx.TensorProto.EXTERNAL
        for entry in t.external_data
        if entry.key == "location"
    }
    return sum((folder / name).stat().st_size for name in files if (folder / name).is_file())


def renamed(prepared: Prepared, name: str, subject: str, runtime: str | None = None) -> Candidate:
    """The only candidate of a bundle or file under another name."""
    (candidate,) = prepared.candidates
    return replace(candidate, name=name, subject=subject, runtime=runtime or candidate.runtime)
