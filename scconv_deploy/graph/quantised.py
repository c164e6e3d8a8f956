"""A quantised ONNX graph -> its Q/DQ: which values stand for which floats, with what scales, on what codes.

An *activation* is a QuantizeLinear with the DequantizeLinear behind it; a *constant* is a DequantizeLinear of
stored codes. Both are read by what they do, not by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
CODES = {TensorProto.UINT8: "int8", TensorProto.INT8: "int8", TensorProto.FLOAT8E4M3FN: "fp8"}
"""Element type of codes -> the precision they stand for."""


@dataclass(frozen=True, slots=True)
class QuantisedValue:
    """One activation: the tensor, its codes, the dequantised values; parameters of Q and of every DQ."""

    source: str
    codes: str
    node: str
    scale: np.ndarray
    zero_point: np.ndarray
    dequantised: tuple[str, ...]
    others: tuple[tuple[np.ndarray, np.ndarray], ...]
    """(scale, zero point) of each DequantizeLinear."""


@dataclass(frozen=True, slots=True)
class QuantisedConstant:
    """One stored constant: ``codes * scale`` along ``axis`` is what its readers get."""

    node: str
    dequantised: str
    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    def values(self) -> np.ndarray:
        """What the codes stand for, in float64. Raises ValueError where scales do not fit the axis."""
        steps: np.ndarray = self.codes.astype(np.float64) - self.along(self.zero_point)
        values: np.ndarray = steps * self.along(self.scale)
        return values

    def along(self, parameter: np.ndarray) -> np.ndarray:
        """A parameter of one number per index of ``axis``, shaped to broadcast to the codes."""
        wide = parameter.astype(np.float64)
        if wide.size == 1:
            return wide.reshape(())
        if not -self.codes.ndim <= self.axis < self.codes.ndim or wide.size != self.codes.shape[self.axis]:
            raise ValueError(
                f"{wide.size} scales on axis {self.axis} of a tensor of shape {self.codes.shape}"
            )
        axis = self.axis % self.codes.ndim
        return wide.reshape([-1 if i == axis else 1 for i in range(self.codes.ndim)])


@dataclass(frozen=True, slots=True)
class QuantisedParts:
    """All Q/DQ of a graph. ``values`` by the name of the codes, ``constants`` by their dequantised name."""

    values: Mapping[str, QuantisedValue]
    constants: Mapping[str, QuantisedConstant]
    sources: Mapping[str, str]
    """Dequantised name -> the float tensor that it stands for."""


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether the main graph has any Q/DQ."""
    return any(n.op_type in (QUANTIZE, DEQUANTIZE) for n in model.graph.node)


def read_parts(model: onnx.ModelProto) -> QuantisedParts:
    """Every Q/DQ of the main graph.

    Raises:
        ValueError: a Q or DQ whose parameters are computed, or a DQ of codes that no Q and no constant makes.
    """
    constants = {t.name: t for t in model.graph.initializer}

    def parameters(node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
        if len(node.input) < 3 or any(name not in constants for name in node.input[1:3]):
            raise ValueError(f"{node.name}: its scale or zero point is not a constant of the graph")
        scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        return scale, zero

    nodes = [n for n in model.graph.node if n.op_type in (QUANTIZE, DEQUANTIZE) and not n.domain]
    behind: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        if node.op_type == DEQUANTIZE:
            behind.setdefault(node.input[0], []).append(node)
    values, stored, sources = {}, {}, {}
    for node in nodes:
        if node.op_type == QUANTIZE:
            readers = behind.get(node.output[0], [])
            found = QuantisedValue(
                node.input[0],
                node.output[0],
                node.name,
                *parameters(node),
                tuple(r.output[0] for r in readers),
                tuple(parameters(r) for r in readers),
            )
            values[found.codes] = found
            sources.update(dict.fromkeys(found.dequantised, found.source))
        elif node.input[0] in constants:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            codes = numpy_helper.to_array(constants[node.input[0]])
            stored[node.output[0]] = QuantisedConstant(
                node.name, node.output[0], codes, *parameters(node), axis
            )
    for name in behind:
        if name not in values and name not in constants:
            raise ValueError(f"{behind[name][0].name} dequantises '{name}', which nothing quantised")
    return QuantisedParts(values, stored, sources)


def code_kinds(model: onnx.ModelProto) -> dict[str, str]:
    """Dequantised value -> "int8" or "fp8", for every DQ whose codes' type is known (int32 biases are not)."""
    constants = {t.name: t.data_type for t in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == DEQUANTIZE and len(node.input) > 2 and node.input[2] in constants:
            kind = CODES.get(constants[node.input[2]])
            if kind is not None:
                found[node.output[0]] = kind
    return found
