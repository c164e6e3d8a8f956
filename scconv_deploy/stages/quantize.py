"""quantize: a typed :class:`TracedGraph` -> the same graph with Q/DQ around its products, scales from samples.

Precision lives in the graph: no builder is told anything. What is not quantised (SRU's norm and gate, the
fuse's pooling and softmax, everything without weights) stays in the type in which it was traced, the *rest*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx

from scconv_deploy.artifacts import Calibration, TracedGraph
from scconv_deploy.config import QUANTISED, ExportConfig, Precision
from scconv_deploy.contracts import Exporter, Progress, QuantForm
from scconv_deploy.errors import BuildError, CapabilityError, InputError, first_line
from scconv_deploy.graph.precision import PRODUCTS
from scconv_deploy.quantise.insert import insert
from scconv_deploy.quantise.points import Points, find_points
from scconv_deploy.quantise.ranges import collect
from scconv_deploy.quantise.scales import Scale, activation_scale
from scconv_deploy.workspace import sha256

FLOATS: dict[int, np.dtype] = {
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
}
HALF_SCALES_OPSET = 19


def form_of(exporter: Exporter, config: ExportConfig) -> QuantForm | None:
    """How the target wants Q/DQ; None where the precision asked for has none.

    Raises:
        CapabilityError: the target cannot quantise so, or not with this rest type; the message says what it can.
    """
    if config.precision not in QUANTISED:
        return None
    known: Mapping[Precision, QuantForm] = getattr(exporter, "quantised", {})
    form = known.get(config.precision)
    if form is None:
        can = ", ".join(p.value for p in known)
        raise CapabilityError(
            f"--target {config.target} has no {config.precision.value}"
            + (f"; it quantises to {can}" if can else "; use fp32, fp16 or bf16")
            + ("; fp8 is for TensorRT (--target trt or trt-rtx)" if config.precision is Precision.FP8 else "")
        )
    if config.rest is not None and config.rest not in form.rest:
        raise CapabilityError(
            f"--rest {config.rest.value} is not available for {config.precision.value} on --target "
            f"{config.target}: its rest is {' or '.join(p.value for p in form.rest)}"
        )
    return form


def graph_type(form: QuantForm | None, config: ExportConfig) -> Precision:
    """The type in which the graph is traced: the precision itself, or the rest of a quantised graph."""
    return config.precision if form is None else config.rest or form.rest[0]


def must_have_samples(config: ExportConfig) -> None:
    """Raises InputError where a quantised precision is asked for without samples."""
    if config.precision in QUANTISED and config.calib is None:
        raise InputError(
            f"{config.precision.value} needs real samples to learn the ranges of activations from: give "
            "--calib samples.npz, 100 to 500 inputs as the model sees them in use, written with "
            "numpy.savez('samples.npz', INPUT_NAME=array) whose first axis is the sample"
        )


def run(
    graph: TracedGraph,
    samples: Mapping[str, np.ndarray],
    form: QuantForm,
    config: ExportConfig,
    progress: Progress,
) -> TracedGraph:
    """Collect ranges, choose scales, write Q/DQ.

    Raises:
        InputError: samples or weights are not finite, or there is nothing to quantise.
        BuildError: the quantised graph is not valid ONNX.
    """
    points = find_points(graph.model, form)
    if not points.products:
        raise InputError(
            f"the model has no convolution or matrix product with constant weights: there is nothing to "
            f"compute in {config.precision.value}; export it in fp16"
        )
    rest = _rest(graph.model, points)
    if rest == np.dtype(np.float16) and graph.opset < HALF_SCALES_OPSET:
        raise InputError(f"fp16 scales need opset {HALF_SCALES_OPSET} or later, not {graph.opset}")
    _weights_must_be_finite(graph.model, points)
    wanted = [a.name for a in points.activations if a.like is None]
    ranges, used = collect(graph, wanted, samples, config.calib_method, progress)
    scales: dict[str, Scale] = {}
    for point in points.activations:
        like = point.like
        scales[point.name] = (
            scales[like]
            if like is not None
            else activation_scale(*ranges[point.name], form.activations, rest)
        )
    model = insert(graph.model, points, scales, form)
    _check(model)
    calibration = Calibration(
        method=config.calib_method.value,
        samples=used,
        rest="fp16" if rest == np.dtype(np.float16) else "fp32",
        ranges={name: scale.limits for name, scale in scales.items()},
        source=None if config.calib is None else str(config.calib),
        sha256=None if config.calib is None else sha256(config.calib),
    )
    return replace(
        graph,
        model=model,
        notes=(*graph.notes, *_notes(points, ranges, used)),
        unquantised=graph,
        calibration=calibration,
    )


def in_words(graph: TracedGraph) -> str:
    """``35 convolutions and products on codes, 54 activations; ranges (minmax) of 450 samples``."""
    made = graph.calibration
    if made is None:
        return "nothing"
    products = sum(n.op_type in PRODUCTS for n in graph.model.graph.node)
    return (
        f"{products} products, {len(made.ranges)} activations, rest {made.rest}; ranges ({made.method}) of "
        f"{made.samples} samples"
    )


def _rest(model: onnx.ModelProto, points: Points) -> np.dtype:
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    found = {kinds[p.weight] for p in points.products}
    if len(found) != 1 or not found <= set(FLOATS):
        names = ", ".join(onnx.TensorProto.DataType.Name(k) for k in sorted(found))
        raise InputError(
            f"weights of the types {names} cannot be quantised together; they must be fp32 or fp16"
        )
    return FLOATS[found.pop()]


def _weights_must_be_finite(model: onnx.ModelProto, points: Points) -> None:
    constants = {t.name: t for t in model.graph.initializer}
    for product in points.products:
        for name in (product.weight, product.bias):
            if name is not None and not np.isfinite(onnx.numpy_helper.to_array(constants[name])).all():
                raise InputError(f"the weight '{name}' holds NaN or infinity and has no range")


def _check(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"the quantised graph is not valid ONNX: {first_line(error)}") from error


def _notes(points: Points, ranges: Mapping[str, tuple[float, float]], used: int) -> list[str]:
    notes = [f"{node} stays unquantised: {why}" for node, why in points.left]
    silent = [name for name, (low, high) in ranges.items() if low == high == 0.0]
    if silent:
        notes.append(
            f"{len(silent)} activations are zero on all calibration samples (first: {silent[0]}); what other "
            "inputs put there becomes a multiple of 1"
        )
    if used < 32:
        notes.append(f"ranges come from {used} sample{'' if used == 1 else 's'} only; 100 to 500 are usual")
    return notes
