"""A region with two stored masks, each the complement of the other -> one mask, and ``v - mask * v`` beside it.

Family F0 compares the gamma weight, which is constant, so an exporter stores ``w > t`` and ``not (w > t)`` as two
vectors of 0 and 1. Together they are one static mask; apart they would be two free vectors. Exact: with
m in {0, 1}, ``(1 - m) * v`` and ``v - m * v`` are both v or 0. Refused where the second mask is read by anything
but a product.

Where no weight is above the threshold (the usual case: the weights of C channels sum to 1), a simplifier drops the
product with the second mask, which is all ones. It is put back as ``v - m * v`` with the first, which is all
zeros: exact for finite v.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper


def one_mask(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy with the second mask's products made from the first; the model itself where there is no such pair.

    Args:
        model: a region.
        constants: its floating constants by name, computed ones included.
    """
    pair = _complements(model, constants)
    if pair is None:
        return _restored(model, constants)
    if any(pair[1] in n.input and n.op_type != "Mul" for n in model.graph.node):
        return model
    first, second = pair
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if second not in node.input:
            nodes.append(node)
            continue
        value = next((v for v in node.input if v != second), second)
        kept = f"{node.output[0]}_kept"
        nodes.append(helper.make_node("Mul", [first, value], [kept], name=f"{node.name}_kept"))
        nodes.append(helper.make_node("Sub", [value, kept], [node.output[0]], name=node.name))
    return _with_nodes(model, nodes)


def _restored(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The dropped product put back beside the one with a mask of zeros; the model itself where there is none."""
    found = _lone_zeros(model, constants)
    if found is None:
        return model
    mask, dropped = found
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node is not dropped:
            nodes.append(node)
            continue
        out = node.output[0]
        whole, kept = f"{out}_whole", f"{out}_kept"
        nodes.append(helper.make_node("Mul", list(node.input), [whole], name=f"{node.name}_whole"))
        nodes.append(helper.make_node("Mul", [mask, whole], [kept], name=f"{node.name}_kept"))
        nodes.append(helper.make_node("Sub", [whole, kept], [out], name=node.name))
    return _with_nodes(model, nodes)


def _lone_zeros(
    model: onnx.ModelProto, constants: Mapping[str, np.ndarray]
) -> tuple[str, onnx.NodeProto] | None:
    """A mask of zeros on a sigmoid, and the only other reader of that sigmoid: a product without a mask."""
    nodes = list(model.graph.node)
    for sigmoid in nodes:
        if sigmoid.op_type != "Sigmoid":
            continue
        readers = [n for n in nodes if sigmoid.output[0] in n.input]
        if len(readers) != 2 or any(n.op_type != "Mul" for n in readers):
            continue
        masks = [[v for v in n.input if v in constants and _is_mask(constants[v])] for n in readers]
        for (mine, other), (_, dropped) in ((masks, readers), (masks[::-1], readers[::-1])):
            if len(mine) == 1 and not other and not constants[mine[0]].any():
                return mine[0], dropped
    return None


def _with_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def _complements(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Two masks in the order of their first use by a product."""
    used = [v for node in model.graph.node if node.op_type == "Mul" for v in node.input if v in constants]
    masks = [v for v in dict.fromkeys(used) if _is_mask(constants[v])]
    for index, first in enumerate(masks):
        for second in masks[index + 1 :]:
            a, b = constants[first], constants[second]
            if a.shape == b.shape and bool((a + b == 1).all()):
                return first, second
    return None


def _is_mask(values: np.ndarray) -> bool:
    vector = values.size > 1 and values.size == max(values.shape)
    return vector and bool(((values == 0) | (values == 1)).all())
