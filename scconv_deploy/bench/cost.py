"""An ONNX graph at given input shapes -> what each operator computes and moves, by node name.

Counted as exported, before a runtime fuses anything: multiply-accumulates of convolutions and matrix products
(two operations each), one operation per output element of element-wise operators, and the bytes of every
operator's inputs, outputs and constants. ``Reshape`` and its kin only rename a shape: they move nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from scconv_deploy.profiles import Work
from scconv_deploy.scconv.zoo.counts import FUSE_OPS_PER_ELEMENT, SRU_OPS_PER_ELEMENT

Shape = tuple[int, ...]

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Size", "Constant"})
MOVERS = frozenset(
    {"Split", "Concat", "Transpose", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Pad", "Tile"}
    | {"ConstantOfShape", "Cast", "ScatterND", "DepthToSpace", "SpaceToDepth", "Range", "DequantizeLinear"}
)
"""Move bytes and compute nothing."""

WEIGHT = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Position of a convolution's kernel among its inputs."""

MATRIX = {"MatMul": 0, "Gemm": 0, "MatMulInteger": 0, "QLinearMatMul": 0}

PER_INPUT_ELEMENT = {
    "InstanceNormalization": 5,
    "GroupNormalization": 5,
    "LayerNormalization": 5,
    "Softmax": 4,
    "GlobalAveragePool": 1,
    "GlobalMaxPool": 1,
}
"""Sum, sum of squares (2), subtract, scale; maximum, subtract and exponentiate, sum, divide."""


@dataclass(frozen=True, slots=True)
class GraphCost:
    """``nodes``: work by node name. ``unknown``: nodes whose shapes could not be inferred; they count less."""

    nodes: Mapping[str, Work]
    unknown: tuple[str, ...]

    @property
    def total(self) -> Work:
        """Of the whole graph."""
        return sum(self.nodes.values(), Work())


def graph_cost(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> GraphCost:
    """Count every node of the main graph (nodes need names that differ).

    Args:
        model: as exported; it is not changed.
        shapes: of the graph's inputs; free axes elsewhere follow from these.
    """
    sizes, widths = _values(model, shapes)
    nodes: dict[str, Work] = {}
    unknown: list[str] = []
    for node in model.graph.node:
        values = [v for v in (*node.input, *node.output) if v]
        if any(v not in sizes for v in values) and node.op_type not in VIEWS:
            unknown.append(node.name)
        work = Work(_macs(node, sizes), _elementwise(node, sizes), _bytes(node, values, sizes, widths))
        nodes[node.name] = nodes.get(node.name, Work()) + work
    return GraphCost(nodes, tuple(unknown))


def _values(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> tuple[dict[str, Shape], dict[str, int]]:
    """Shape and bytes per element of every value whose shape is known."""
    fixed = _at(model, shapes)
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    sizes: dict[str, Shape] = {}
    widths: dict[str, int] = {}
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        kind = value.type.tensor_type
        widths[value.name] = _width(kind.elem_type)
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            sizes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    for tensor in model.graph.initializer:
        sizes[tensor.name], widths[tensor.name] = tuple(tensor.dims), _width(tensor.data_type)
    return sizes, widths


def _at(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> onnx.ModelProto:
    """A copy with every free axis that the inputs settle replaced by its number."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    bound: dict[str, int] = {}
    for value in fixed.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if not dim.HasField("dim_value"):
                bound[dim.dim_param] = size
                dim.dim_value = size
    for value in [*fixed.graph.value_info, *fixed.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in bound:
                dim.dim_value = bound[dim.dim_param]
            elif not dim.HasField("dim_value"):
                dim.ClearField("dim_param")  # inference fills it in
    return fixed


def _macs(node: onnx.NodeProto, sizes: Mapping[str, Shape]) -> int:
    kind = node.op_type
    if kind in WEIGHT and not node.domain:
        kernel = sizes.get(node.input[WEIGHT[kind]], ())
        # A transposed convolution spreads each input element, the others gather each output element.
        value = node.input[0] if kind == "ConvTranspose" else node.output[0]
        return prod(kernel[1:]) * prod(sizes[value]) if kernel and value in sizes else 0
    if kind in MATRIX and not node.domain:
        left, out = sizes.get(node.input[MATRIX[kind]], ()), sizes.get(node.output[0])
        if not left or out is None:
            return 0
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return prod(out) * (left[0] if transposed else left[-1])
    return 0


def _elementwise(node: onnx.NodeProto, sizes: Mapping[str, Shape]) -> int:
    kind = node.op_type
    read = prod(sizes.get(node.input[0], (0,))) if node.input else 0
    made = sum(prod(sizes.get(v, (0,))) for v in node.output if v)
    if node.domain:
        # Our fused operators, counted as the paper's formulas are.
        return read * SRU_OPS_PER_ELEMENT if kind.startswith("SRU") else made * FUSE_OPS_PER_ELEMENT
    if kind in VIEWS or kind in MOVERS or kind in WEIGHT or kind in MATRIX:
        return 0
    if kind in PER_INPUT_ELEMENT:
        return read * PER_INPUT_ELEMENT[kind]
    if kind.startswith("Reduce"):
        return read
    if kind in ("AveragePool", "MaxPool", "LpPool"):
        return made * prod(next((a.ints for a in node.attribute if a.name == "kernel_shape"), [1]))
    return made


def _bytes(
    node: onnx.NodeProto, values: Sequence[str], sizes: Mapping[str, Shape], widths: Mapping[str, int]
) -> int:
    if node.op_type in VIEWS and not node.domain:
        return 0
    return sum(prod(sizes[v]) * widths.get(v, 4) for v in dict.fromkeys(values) if v in sizes)


def _width(element: int) -> int:
    """Bytes per element; types below a byte count as one."""
    try:
        return int(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)).itemsize)
    except (KeyError, TypeError):
        return 0
