"""A region with two stored masks, each the complement of the other -> one mask, and ``v - mask * v`` beside it.

Family F0 compares the gamma weight, which is constant, so an exporter stores ``w > t`` and ``not (w > t)`` as two
vectors of 0 and 1. Together they are one static mask; apart they would be two free vectors. Exact: with
m in {0, 1}, ``(1 - m) * v`` and ``v - m * v`` are both v or 0. Refused where the second mask is read by anything
but a product.
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
    if pair is None or any(pair[1] in n.input and n.op_type != "Mul" for n in model.graph.node):
        return model
    first, second = pair
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if second not in node.input:
            nodes.append(node)
            continue
        value = next((v for v in node.input if v != second), second)
        kept = f"{node.output[0]}_kept"
        nodes.append(helper.make_node("Mul", [first, value], [kept], name=f"{node.name}_kept"))
        nodes.append(helper.make_node("Sub", [value, kept], [node.output[0]], name=node.name))
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
