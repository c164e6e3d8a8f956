"""A graph, the places of Q/DQ and their scales -> the quantised graph; the function is the same but for codes.

Weights are stored as codes behind a DequantizeLinear, a quarter of their float32 size. New nodes carry the
module path of what made their value, so that reports and kernels name the user's modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from scconv_deploy.contracts import QuantForm
from scconv_deploy.quantise.points import Activation, Points, Product
from scconv_deploy.quantise.scales import Scale, bias_codes, least_scale, weight_codes

WEIGHT_KINDS = {"uint8": "int8", "int8": "int8", "float8_e4m3fn": "float8_e4m3fn"}


@dataclass
class _Writer:
    """The growing graph: nodes in order, new constants, and the dequantised names of what was quantised."""

    form: QuantForm
    scales: Mapping[str, Scale]
    constants: Mapping[str, onnx.TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    made: dict[str, onnx.TensorProto] = field(default_factory=dict)
    weights: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)

    def activation(self, point: Activation, scope: str) -> None:
        """Q and DQ behind the tensor."""
        scale, name = self.scales[point.name], point.name
        self._constant(f"{name}_scale", scale.scale)
        self._constant(f"{name}_zero_point", scale.zero_point)
        params = [f"{name}_scale", f"{name}_zero_point"]
        self._node("QuantizeLinear", [name, *params], f"{name}_quantised", scope)
        self._node("DequantizeLinear", [f"{name}_quantised", *params], f"{name}_dequantised", scope)

    def product(self, point: Product, scope: str) -> tuple[str, str | None]:
        """DQ of the codes of weight and bias; returns what the node reads instead of them."""
        given = self.scales[point.given]
        array = numpy_helper.to_array(self.constants[point.weight])
        bias = None if point.bias is None else numpy_helper.to_array(self.constants[point.bias])
        integer_bias = self.form.outputs and bias is not None
        least = least_scale(bias, given) if integer_bias and bias is not None else None
        key = f"{point.weight} of {point.node}" if integer_bias else point.weight
        if key not in self.weights:
            kind = WEIGHT_KINDS[given.kind]
            codes, scales = weight_codes(array, point.axis, kind, array.dtype, least)
            name = self._free(point.weight)
            self._dequantise(name, codes, scales, point.axis, scope)
            self.weights[key] = (name, scales)
        name, scales = self.weights[key]
        self.replaced.add(point.weight)
        if not integer_bias or bias is None or point.bias is None:
            return f"{name}_dequantised", point.bias
        codes, bias_scales = bias_codes(bias, given, scales)
        short = self._free(point.bias)
        self._dequantise(short, codes, bias_scales, 0, scope)
        self.replaced.add(point.bias)
        return f"{name}_dequantised", f"{short}_dequantised"

    def _dequantise(self, name: str, codes: np.ndarray, scales: np.ndarray, axis: int, scope: str) -> None:
        self._constant(f"{name}_quantised", codes)
        self._constant(f"{name}_scale", scales)
        self._constant(f"{name}_zero_point", np.zeros(scales.shape, dtype=codes.dtype))
        inputs = [f"{name}_quantised", f"{name}_scale", f"{name}_zero_point"]
        self._node("DequantizeLinear", inputs, f"{name}_dequantised", scope, axis=axis)

    def _free(self, name: str) -> str:
        """A constant that two products share is quantised for each where their biases ask for other scales."""
        made, count = name, 1
        while f"{made}_quantised" in self.made:
            count += 1
            made = f"{name}_{count}"
        return made

    def _constant(self, name: str, array: np.ndarray) -> None:
        self.made[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)

    def _node(self, kind: str, inputs: list[str], output: str, scope: str, **attributes: int) -> None:
        name = f"{scope}/{kind}_q{len(self.nodes)}" if scope else f"{kind}_q{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], name=name, **attributes))


def insert(
    model: onnx.ModelProto, points: Points, scales: Mapping[str, Scale], form: QuantForm
) -> onnx.ModelProto:
    """A copy of ``model`` with Q/DQ at ``points``; ``scales`` holds one for every activation."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    writer = _Writer(form, scales, {t.name: t for t in graph.initializer})
    activations = {a.name: a for a in points.activations}
    products = {p.node: p for p in points.products}
    first_reader = {p.given: _scope(p.node) for p in reversed(points.products)}
    for value in graph.input:
        if value.name in activations:
            writer.activation(activations[value.name], first_reader[value.name])
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.name in products:
            weight, bias = writer.product(products[node.name], _scope(node.name))
            copy.input[1] = weight
            if bias is not None:
                copy.input[2] = bias
        for index, name in enumerate(node.input):
            point = activations.get(name)
            if point is not None and (point.readers is None or node.name in point.readers):
                copy.input[index] = f"{name}_dequantised"
        writer.nodes.append(copy)
        for name in node.output:
            if name in activations:
                writer.activation(activations[name], _scope(node.name))
    del graph.node[:]
    graph.node.extend(writer.nodes)
    _replace_constants(graph, writer)
    return result


def _replace_constants(graph: onnx.GraphProto, writer: _Writer) -> None:
    """Drop the floats that nobody reads any more."""
    read = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name not in writer.replaced or t.name in read]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *writer.made.values()])


def _scope(node_name: str) -> str:
    return node_name.rpartition("/")[0]
