"""A Linear (Gemm, or MatMul by a constant matrix) on (N, K) -> a 1x1 convolution on (N, K, 1, 1).

    y = x W^T + b    <=>    y = Squeeze(Conv1x1(Unsqueeze(x), W as (M, K, 1, 1), b))

Exact: output m is the same sum of K products and the same bias; only who sums them changes. TensorRT for RTX has no
FP32 matrix product for Turing (sm_75), but FP32 convolutions, so that a float32 network with a Linear head builds
there in this form. Nothing else is changed, and no other compute capability is given this form: the matrix product
is the faster kernel where it exists.

Refused, with the node and the reason: inputs that are not two-dimensional (a convolution has one position here),
computed weights, Gemm with alpha, beta or transA.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from scconv_deploy.errors import BuildError

AXES = "linear_as_convolution/axes_2_3"


def linear_as_convolution(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` in which every Gemm and MatMul is a convolution; ``model`` itself where it has none.

    Raises:
        BuildError: a matrix product that has no such form; the message names the node and why.
    """
    if not any(_is_product(node) for node in model.graph.node):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    typed = onnx.shape_inference.infer_shapes(model).graph
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in [*typed.value_info, *typed.input]}
    constants = {t.name: t for t in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += _rewritten(node, constants, ranks, graph) if _is_product(node) else [node]
    graph.initializer.append(numpy_helper.from_array(np.array([2, 3], dtype=np.int64), AXES))
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result


def _is_product(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Gemm", "MatMul") and not node.domain


def _rewritten(
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    ranks: dict[str, int],
    graph: onnx.GraphProto,
) -> list[onnx.NodeProto]:
    weight = _matrix(node, constants, ranks)
    scope = node.name.rpartition("/")[0]
    own = node.output[0]
    stored = f"{node.input[1]}_as_1x1_of_{own}"
    graph.initializer.append(numpy_helper.from_array(weight[:, :, None, None], stored))
    inputs = [f"{own}_before", stored, *[name for name in node.input[2:3] if name]]

    def named(kind: str) -> str:
        return f"{scope}/{kind}_of_{node.name.rpartition('/')[2]}" if scope else f"{kind}_of_{node.name}"

    return [
        onnx.helper.make_node("Unsqueeze", [node.input[0], AXES], [inputs[0]], name=named("Unsqueeze")),
        onnx.helper.make_node("Conv", inputs, [f"{own}_behind"], name=named("Conv"), kernel_shape=[1, 1]),
        onnx.helper.make_node("Squeeze", [f"{own}_behind", AXES], [own], name=named("Squeeze")),
    ]


def _matrix(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], ranks: dict[str, int]
) -> np.ndarray:
    """The weight as (M, K), contiguous."""
    options = {a.name: a for a in node.attribute}
    why = None
    if node.input[1] not in constants:
        why = "its weight is computed"
    elif ranks.get(node.input[0]) != 2 or len(constants[node.input[1]].dims) != 2:
        why = "its input does not have two axes"
    elif any(options[n].f != 1.0 for n in ("alpha", "beta") if n in options) or (
        "transA" in options and options["transA"].i
    ):
        why = "it scales or transposes its input"
    elif len(node.input) > 2 and node.input[2] and len(constants[node.input[2]].dims) != 1:
        why = "its bias is not one number for each output"
    if why is not None:
        raise BuildError(
            f"node '{node.name}' is a matrix product in float32, which TensorRT for RTX does not have for sm_75, and "
            f"it cannot be written as a convolution: {why}; use --precision fp16, or leave sm_75 out"
        )
    array = numpy_helper.to_array(constants[node.input[1]])
    transposed = node.op_type == "Gemm" and "transB" in options and bool(options["transB"].i)
    return np.ascontiguousarray(array if transposed else array.T)
