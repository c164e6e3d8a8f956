"""An ONNX graph -> the types it computes in: as a whole, and per SCConv block for each of three roles.

Roles are found by node names (see :mod:`scconv_deploy.graph.names`), which kernels of a built engine carry too:
``convolutions``, ``gate`` (the comparison; absent where the gate is constant) and ``fuse`` (the softmax over
pooled channels, or its sigmoids for the pair form). Where nodes of one role differ, the widest type is given:
a role is only as low as all of it is. Fused nodes (``scconv::SRU_*``, ``scconv::CRUFuse_*``) compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.quantised import code_kinds
from scconv_deploy.scconv.fused_ops import FUSE as FUSED_FUSE
from scconv_deploy.scconv.fused_ops import SRU as FUSED_SRU
from scconv_deploy.scconv.fused_ops import is_fused
from scconv_deploy.scconv.spec import Gate

CONVOLUTIONS, GATE, FUSE = "convolutions", "gate", "fuse"
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that hold nearly all arithmetic; their type is the model's precision."""

NAMES = {
    onnx.TensorProto.DOUBLE: "fp64",
    onnx.TensorProto.FLOAT: "fp32",
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
}
WIDEST_FIRST = ("fp64", "fp32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")


def role(node_name: str, block: str) -> str | None:
    """What a node does in the block at module path ``block``; None for nodes of no role or of other modules."""
    if not belongs_to(node_name, block):
        return None
    scope, _, operator = node_name.rpartition("/")
    kind = operator.partition("_")[0]
    if kind == "Conv":
        return CONVOLUTIONS
    if kind in ("Greater", "GreaterOrEqual"):
        return GATE
    if kind == "Softmax" or (kind == "Sigmoid" and scope.rpartition(".")[2] == "cru"):
        return FUSE
    return None


def is_product(node_name: str) -> bool:
    """Whether a node is a convolution or matrix product, by its name."""
    return node_name.rpartition("/")[2].partition("_")[0] in PRODUCTS


def widest(types: Iterable[str]) -> str | None:
    """The widest of these types; None for none."""
    known = set(types)
    return next((t for t in WIDEST_FIRST if t in known), None)


def lowest(types: Iterable[str]) -> str | None:
    """The lowest of these types; None for none."""
    known = set(types)
    return next((t for t in reversed(WIDEST_FIRST) if t in known), None)


def block_types(model: onnx.ModelProto, blocks: Sequence[str]) -> dict[str, dict[str, str]]:
    """Block path -> role -> type ("fp32", "fp16", "bf16", "int8", "fp8")."""
    kinds, codes = element_types(model), code_kinds(model)
    found: dict[str, dict[str, set[str]]] = {path: {} for path in blocks}
    for node in model.graph.node:
        for path in blocks:
            if is_fused(node) and belongs_to(node.name, path):
                for inside in _fused_roles(node):
                    found[path].setdefault(inside, set()).add("fp32")
                continue
            what = role(node.name, path)
            kind = codes_read(node, codes) or kinds.get(node.input[0]) if node.input else None
            if what is not None and kind is not None:
                found[path].setdefault(what, set()).add(kind)
    return {path: settled(roles) for path, roles in found.items()}


def codes_read(node: onnx.NodeProto, codes: Mapping[str, str]) -> str | None:
    """The type of a product of two dequantised values, which runtimes compute on codes; else None."""
    if node.op_type not in PRODUCTS or len(node.input) < 2:
        return None
    return widest(codes[v] for v in node.input[:2]) if all(v in codes for v in node.input[:2]) else None


def _fused_roles(node: onnx.NodeProto) -> tuple[str, ...]:
    """What a ``scconv::`` node computes, in float32 whatever it stores; a static gate was decided before."""
    kind, _, form = node.op_type.partition("_")
    decides = kind == FUSED_SRU and form.partition("_")[0] != Gate.STATIC.value
    return (GATE,) if decides else (FUSE,) if kind == FUSED_FUSE else ()


def settled(roles: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Role -> its widest type; a role without a floating type is left out."""
    chosen = {name: widest(types) for name, types in roles.items()}
    return {name: kind for name, kind in chosen.items() if kind is not None}


def model_precision(model: onnx.ModelProto) -> str | None:
    """The lowest type of any convolution or matrix product; without one, of any floating value."""
    kinds, codes = element_types(model), code_kinds(model)
    products = [
        codes_read(n, codes) or kinds.get(n.input[0]) for n in model.graph.node if n.op_type in PRODUCTS
    ]
    return lowest(k for k in products if k) or lowest(kinds.values())


def element_types(model: onnx.ModelProto) -> dict[str, str]:
    """Value -> type, for every floating value of the main graph whose type is known or can be inferred."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    kinds = {v.name: v.type.tensor_type.elem_type for v in values}
    kinds.update({t.name: t.data_type for t in graph.initializer})
    return {name: NAMES[kind] for name, kind in kinds.items() if kind in NAMES}
