"""A ``Shape`` of a tensor outside a region -> the same numbers from the region's own input.

Exporters read a batch size once, at the network's input, and use it in every reshape. Where inference says that
an axis of the region's input has the same size (the same number, or the same symbol), it is read there. Imports
onnx and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scconv_deploy.programs.dataflow import Shape


def reroot(node: onnx.NodeProto, shapes: Mapping[str, Shape], entry: str) -> list[onnx.NodeProto] | None:
    """Nodes that make ``node``'s output from ``entry``'s shape; None where the shapes do not tell."""
    source, own = shapes.get(node.input[0]), shapes.get(entry)
    if node.op_type != "Shape" or source is None or own is None:
        return None
    bounds = {a.name: a.i for a in node.attribute}
    axes = source[slice(bounds.get("start", 0), bounds.get("end", len(source)))]
    base = f"{node.output[0]}_of_{entry}"
    made = [helper.make_node("Shape", [entry], [f"{base}_all"], name=f"{node.name}_all")]
    pieces = []
    for position, size in enumerate(axes):
        piece = f"{base}_{position}"
        if isinstance(size, int):
            made.append(_constant(piece, size))
        elif size is not None and size in own:
            made.append(_constant(f"{piece}_axis", own.index(size)))
            made.append(helper.make_node("Gather", [f"{base}_all", f"{piece}_axis"], [piece], axis=0))
        else:
            return None
        pieces.append(piece)
    if not pieces:
        return None
    made.append(helper.make_node("Concat", pieces, [node.output[0]], axis=0))
    return made


def _constant(name: str, value: int) -> onnx.NodeProto:
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.array([value], np.int64), name)
    )
