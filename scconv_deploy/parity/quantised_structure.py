"""Is a quantised graph the traced graph and nothing but codes? Decided exactly, without running anything.

With every QuantizeLinear and DequantizeLinear taken out, the graph must be the one that was traced: node by node
the same operator, attributes and names, with the same constants; and every Q/DQ must be sane:

* an activation: one scale for Q and DQ, positive; its range the one that was calibrated, where that is known;
* a weight: scales along its output axis, zero points 0; every code the nearest one to its float weight (half a
  step at most; for float8 a sixteenth of the value), every channel using its range;
* a bias: its scale the product of its activation's and its weight's, its codes the nearest.

Nothing here asks the code that wrote the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from scconv_deploy.artifacts import Calibration
from scconv_deploy.graph.quantised import (
    DEQUANTIZE,
    QUANTIZE,
    QuantisedConstant,
    QuantisedParts,
    QuantisedValue,
    read_parts,
)
from scconv_deploy.tolerances import QuantLimits

LEAST_USED = 0.75
"""Share of its codes' range that a channel's largest weight must reach: below, a bit or more is given away."""
LEAST_SCALES = {"float16": 2.0**-13, "float32": 1e-6}
"""Scales below this, by their type, may use less: fp16 has few digits there, and a bias must fit into int32."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and the name of the node where it is."""

    node: str
    sentence: str


def structure_faults(
    model: onnx.ModelProto, plain: onnx.ModelProto, calibration: Calibration | None, limits: QuantLimits
) -> list[Fault]:
    """Every difference of ``model`` from ``plain`` beside sound Q/DQ, in the order of the graph."""
    try:
        parts = read_parts(model)
    except ValueError as error:
        return [Fault(str(error).partition(":")[0].partition(" dequantises")[0], str(error))]
    floats = {t.name: t for t in plain.graph.initializer}
    faults = [f for v in parts.values.values() for f in _value_faults(v, calibration, limits)]
    faults += _node_faults(model, plain, parts, floats)
    order = {node.name: i for i, node in enumerate(model.graph.node)}
    return sorted(faults, key=lambda f: order.get(f.node, -1))


def _value_faults(value: QuantisedValue, calibration: Calibration | None, limits: QuantLimits) -> list[Fault]:
    def fault(sentence: str) -> list[Fault]:
        return [Fault(value.node, f"'{value.source}' {sentence}")]

    if value.scale.size != 1 or value.zero_point.size != 1:
        return fault("has more than one scale; activations have one")
    scale = float(value.scale)
    if not (np.isfinite(scale) and scale > 0.0):
        return fault(f"has the scale {scale}")
    for other, zero in value.others:
        if other.size != 1 or float(other) != scale:
            return fault(
                f"is quantised with the scale {scale:.6g} and dequantised with {other.ravel()[0]:.6g}"
            )
        if zero.size != 1 or float(zero) != float(value.zero_point):
            return fault("is quantised and dequantised with different zero points")
    if calibration is None:
        return []
    if value.source not in calibration.ranges:
        return fault("was not calibrated")
    step, zero_point = scale, float(value.zero_point)
    lowest, highest = _extremes(value.zero_point.dtype)
    found = ((lowest - zero_point) * step, (highest - zero_point) * step)
    wanted = calibration.ranges[value.source]
    slack = limits.parameter * (wanted[1] - wanted[0])
    if max(abs(f - w) for f, w in zip(found, wanted, strict=True)) > slack:
        return fault(
            f"holds values from {found[0]:.5g} to {found[1]:.5g}; calibrated were {wanted[0]:.5g} to {wanted[1]:.5g}"
        )
    return []


def _extremes(codes: np.dtype) -> tuple[float, float]:
    if codes.name == "float8_e4m3fn":
        return -448.0, 448.0
    return float(np.iinfo(codes).min), float(np.iinfo(codes).max)


def _node_faults(
    model: onnx.ModelProto,
    plain: onnx.ModelProto,
    parts: QuantisedParts,
    floats: Mapping[str, onnx.TensorProto],
) -> list[Fault]:
    kept = [n for n in model.graph.node if n.op_type not in (QUANTIZE, DEQUANTIZE)]
    wanted = list(plain.graph.node)
    faults: list[Fault] = []
    stored = {t.name: t for t in model.graph.initializer}
    pairing = _Pairing(parts, stored, floats, {v.name: v.name for v in plain.graph.input})
    for node, original in zip(kept, wanted, strict=False):
        if (node.name, node.op_type, node.domain) != (original.name, original.op_type, original.domain):
            return [
                *faults,
                Fault(node.name, f"{node.name} ({node.op_type}) stands where {original.name} was"),
            ]
        faults += [Fault(node.name, f"{node.name}: {text}") for text in _differences(node, original, pairing)]
        pairing.names.update(zip(node.output, original.output, strict=False))
    if len(kept) != len(wanted):
        faults.append(Fault(kept[-1].name, f"{len(kept)} nodes beside Q/DQ, traced were {len(wanted)}"))
    for ends in ("input", "output"):
        if list(getattr(model.graph, ends)) != list(getattr(plain.graph, ends)):
            faults.append(Fault("", f"the graph's {ends}s are not those that were traced"))
    return faults


@dataclass(frozen=True, slots=True)
class _Pairing:
    """Which value of the traced graph each value of the quantised one is: traced again, names are others."""

    parts: QuantisedParts
    stored: Mapping[str, onnx.TensorProto]
    floats: Mapping[str, onnx.TensorProto]
    names: dict[str, str]


def _differences(node: onnx.NodeProto, original: onnx.NodeProto, pairing: _Pairing) -> list[str]:
    found: list[str] = []
    if len(node.output) != len(original.output) or len(node.input) != len(original.input):
        return ["reads or makes other values than the traced node"]
    if list(node.attribute) != list(original.attribute):
        found.append("has other attributes than the traced node")
    for position, (name, wanted) in enumerate(zip(node.input, original.input, strict=True)):
        constant, real = pairing.parts.constants.get(name), pairing.parts.sources.get(name, name)
        if wanted in pairing.floats:
            array = numpy_helper.to_array(pairing.floats[wanted])
            if constant is not None:
                found += _constant_faults(constant, wanted, array, _bias_scale(node, position, pairing.parts))
            elif real not in pairing.stored or not _same(numpy_helper.to_array(pairing.stored[real]), array):
                found.append(f"reads another constant than '{wanted}'")
        elif pairing.names.get(real, real) != wanted:
            found.append(f"reads '{real}' where '{wanted}' was traced")
    return found


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _bias_scale(node: onnx.NodeProto, position: int, parts: QuantisedParts) -> np.ndarray | None:
    """What the scale of a bias must be; None for what is no bias of a product of codes."""
    weight = parts.constants.get(node.input[1]) if position == 2 and len(node.input) > 2 else None
    given = next((v for v in parts.values.values() if node.input[0] in v.dequantised), None)
    if weight is None or given is None:
        return None
    product: np.ndarray = given.scale.astype(np.float64) * weight.scale.astype(np.float64)
    return product


def _constant_faults(
    constant: QuantisedConstant,
    name: str,
    wanted: np.ndarray,
    bias_scale: np.ndarray | None,
) -> list[str]:
    scale = constant.scale.astype(np.float64)
    if constant.codes.shape != wanted.shape:
        return [f"the codes of '{name}' have shape {constant.codes.shape}, its weights {wanted.shape}"]
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return [f"a scale of '{name}' is not a positive number"]
    if constant.zero_point.astype(np.float64).any():
        return [f"'{name}' has a zero point that is not 0; constants are symmetric"]
    try:
        values, steps = constant.values(), constant.along(constant.scale)
    except ValueError as error:
        return [f"'{name}' has {error}"]
    float8 = constant.codes.dtype.name == "float8_e4m3fn"
    exact = wanted.astype(np.float64)
    # e4m3fn: 3 bits of mantissa, subnormal numbers in steps of 2^-9.
    allowed = (
        np.maximum(np.abs(exact) / 16.0, steps * 2.0**-10)
        if float8
        else np.broadcast_to(steps / 2, exact.shape)
    )
    excess = np.abs(values - exact) / allowed
    if not float(excess.max(initial=0.0)) <= 1.0 + 1e-3:
        return [f"the codes of '{name}' are up to {excess.max() / 2:.3g} steps off its weights, 0.5 at most"]
    if bias_scale is not None:
        off = np.abs(scale - bias_scale) / bias_scale
        return (
            [f"the scale of the bias '{name}' is not its input's times its weight's"]
            if off.max() > 1e-5
            else []
        )
    return _unused_range(constant, name)


def _unused_range(constant: QuantisedConstant, name: str) -> list[str]:
    """Channels that give bits away, but for dead ones and tiny scales."""
    axis = constant.axis % constant.codes.ndim
    per_channel = np.moveaxis(np.abs(constant.codes.astype(np.float64)), axis, 0).reshape(
        constant.codes.shape[axis], -1
    )
    top = per_channel.max(axis=1, initial=0.0)
    largest = 448.0 if constant.codes.dtype.name == "float8_e4m3fn" else 127.0
    scales = np.broadcast_to(constant.scale.astype(np.float64).ravel(), top.shape)
    wasted = (top > 0) & (top < LEAST_USED * largest) & (scales > LEAST_SCALES[constant.scale.dtype.name])
    if not wasted.any():
        return []
    return [
        f"channel {int(np.argmax(wasted))} of '{name}' uses codes up to {top[wasted][0]:.4g} of {largest:.0f} "
        f"({int(wasted.sum())} channels do not use their range)"
    ]
