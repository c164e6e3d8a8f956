"""A graph with ``scconv::`` nodes -> the same graph in standard operators, named after the nodes they stand for.

A fused node hides its gate; its function's body shows it. ``layer1.sru/SRU_hard_2`` becomes
``layer1.sru/SRU_hard_2~Greater_24`` and its like, so that everything that finds a block by node names finds it
here. What a kernel makes of the node is another question (:mod:`scconv_deploy.parity.fused`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnx.inliner

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.scconv.fused_ops import DOMAIN, SRU, is_fused

BODY = "~"
"""Between a fused node's name and that of an operator of its body."""


def in_standard_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the bodies of our functions in the place of their calls, and the types of its inner values
    as far as they can be inferred; the model itself where it has none of our functions."""
    ours = [(f.domain, f.name) for f in model.functions if f.domain == DOMAIN]
    if not ours:
        return model
    flat = onnx.inliner.inline_selected_functions(model, ours)
    body = iter(flat.graph.node)
    for node in model.graph.node:
        if is_fused(node):
            _name(node, body)
        else:
            next(body)
    _store_constants(flat)
    return onnx.shape_inference.infer_shapes(flat, data_prop=True)


def fused_sru(model: onnx.ModelProto, path: str) -> onnx.NodeProto | None:
    """The one ``scconv::SRU_*`` node of the block at ``path``, or None."""
    scope = f"{path}.sru" if path else "sru"
    found = [n for n in model.graph.node if is_sru(n) and belongs_to(n.name, scope)]
    return found[0] if len(found) == 1 else None


def is_sru(node: onnx.NodeProto) -> bool:
    """Whether the node is a fused SRU."""
    return is_fused(node) and bool(node.op_type.startswith(f"{SRU}_"))


def _name(call: onnx.NodeProto, body: Iterable[onnx.NodeProto]) -> None:
    """Name the nodes that replaced ``call``: they stand together, and end when all its results are made."""
    missing = {value for value in call.output if value}
    for index, node in enumerate(body):
        node.name = f"{call.name}{BODY}{node.op_type}_{index}"
        missing -= set(node.output)
        if not missing:
            return


def _store_constants(model: onnx.ModelProto) -> None:
    """The bodies' Constant nodes as initializers, in place: a constant without a batch is then known as one."""
    kept = []
    for node in model.graph.node:
        if node.op_type != "Constant" or BODY not in node.name:
            kept.append(node)
            continue
        (attribute,) = node.attribute
        kind = np.float32 if attribute.name.startswith("value_float") else np.int64
        array = np.array(onnx.helper.get_attribute_value(attribute), kind)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
