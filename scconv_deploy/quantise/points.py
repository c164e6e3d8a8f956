"""A graph and a target's form -> the places of Q/DQ: which products, which activations, read by whom.

Quantised are convolutions (and Gemm, MatMul) with constant weights: what they read, per tensor, and their
weights, per output channel. Where the target wants results as codes too (``QuantForm.outputs``: ONNX Runtime has
no integer convolution without), results of convolutions are quantised behind their ReLU, and so are sums of two
quantised tensors (residuals) and max-pools of one, which run on codes. SRU's norm, gate and reconstruction, and
the fuse's pooling and softmax, are never among these: they read dequantised values in the rest type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from scconv_deploy.contracts import QuantForm
from scconv_deploy.graph.pieces import reads

LEAST_RANK = {"Conv": 3, "Gemm": 2, "MatMul": 2}


@dataclass(frozen=True, slots=True)
class Product:
    """One node that shall compute in codes: its activation, weight, the weight's output axis, and bias."""

    node: str
    given: str
    weight: str
    axis: int
    bias: str | None


@dataclass(frozen=True, slots=True)
class Activation:
    """One tensor to quantise. ``readers`` are the nodes that read it dequantised, None meaning all of them;
    ``like`` names the tensor whose scale it takes (a max-pool's input)."""

    name: str
    readers: frozenset[str] | None
    like: str | None = None


@dataclass(frozen=True, slots=True)
class Points:
    """All places, and the products that stay as they are, each with its reason."""

    products: tuple[Product, ...]
    activations: tuple[Activation, ...]
    left: tuple[tuple[str, str], ...] = ()


def find_points(model: onnx.ModelProto, form: QuantForm) -> Points:
    """Places of Q/DQ in ``model``, activations in the order in which they are made."""
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    products: list[Product] = []
    left: list[tuple[str, str]] = []
    for node in graph.node:
        if node.op_type in (*LEAST_RANK, "ConvTranspose") and not node.domain:
            found = _product(node, constants)
            if isinstance(found, Product):
                products.append(found)
            else:
                left.append((node.name, found))
    readers = _readers(graph)
    whole = _results(graph, products, readers) if form.outputs else {}
    by_input: dict[str, set[str]] = {}
    for product in products:
        by_input.setdefault(product.given, set()).add(product.node)
    order = [v.name for v in graph.input] + [v for n in graph.node for v in n.output]
    activations = tuple(
        Activation(
            name,
            None if name in whole else frozenset(by_input[name]),
            whole.get(name) if name in whole else None,
        )
        for name in order
        if name in whole or name in by_input
    )
    return Points(tuple(products), activations, tuple(left))


def _product(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Product | str:
    """What is quantised of one node, or why it stays as it is."""
    options = {a.name: a for a in node.attribute}
    weight = constants.get(node.input[1])
    if node.op_type == "ConvTranspose":
        return "transposed convolutions have no integer kernel in ONNX Runtime"
    if weight is None:
        return "its weight is computed, not constant"
    if node.input[0] in constants or len(weight.dims) < LEAST_RANK[node.op_type]:
        return "it does not multiply an activation by a matrix"
    axis = 0
    if node.op_type == "MatMul":
        axis = 1
        if len(weight.dims) != 2:
            return "its weight is a stack of matrices"
    if node.op_type == "Gemm":
        plain = all(options[n].f == 1.0 for n in ("alpha", "beta") if n in options)
        if not plain or ("transA" in options and options["transA"].i):
            return "it scales or transposes"
        axis = 0 if "transB" in options and options["transB"].i else 1
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    if bias is not None and (bias not in constants or len(constants[bias].dims) != 1):
        return "its bias is computed, not one constant for each channel"
    return Product(node.name, node.input[0], node.input[1], axis, bias)


def _results(
    graph: onnx.GraphProto, products: Iterable[Product], readers: Mapping[str, list[onnx.NodeProto]]
) -> dict[str, str | None]:
    """Tensors that are made from codes and shall be codes again -> the tensor whose scale they take."""
    convolutions = {p.node for p in products}
    outputs = {v.name for v in graph.output}
    found: dict[str, str | None] = {}
    for node in graph.node:
        like: str | None = None
        if node.op_type == "MaxPool" and node.input[0] in found and len([v for v in node.output if v]) == 1:
            like = node.input[0]
        elif not (
            (node.op_type == "Conv" and node.name in convolutions)
            or (node.op_type == "Add" and all(v in found for v in node.input))
        ):
            continue
        name = node.output[0]
        following = readers.get(name, [])
        if len(following) == 1 and following[0].op_type == "Relu" and name not in outputs and like is None:
            name = following[0].output[0]
        if name not in outputs and readers.get(name):
            found[name] = like
    return found


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(reads(node)):
            found.setdefault(name, []).append(node)
    return found
