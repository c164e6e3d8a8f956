"""Nodes of a runtime's optimised graph -> the place in the network each belongs to.

Exported nodes are named ``<module path>/<operator>_<n>``. ONNX Runtime keeps these names, fuses neighbours
under one of them, names its blocked convolutions after the value they make (``relu_1_nchwc``), and adds
operators of its own that change layouts. A node is traced to an exported one

1. by its name;
2. by the value that its name holds, back to the operator that it still is (a convolution that took its ReLU
   in bears the ReLU's value);
3. by a value it makes;
4. a layout change belongs to the neighbour that asked for it: the planar operator, which a network of
   convolutions alone would not have;
5. else it belongs to where all its readers belong.

Where the kernels of our fused operators are not there, ONNX Runtime runs their bodies, in nodes without names;
:func:`inlined` writes the same graph with names.

What remains has no place, and is shown so. Where neighbours fuse, the time goes to the fused node's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx.inliner

BLOCKED = "_nchwc"
BODY = "~"
"""Between a call's name and the number of a node of its body."""

LAYOUT = ("ReorderInput", "ReorderOutput")
ALIASES = {"FusedConv": "Conv", "FusedMatMul": "MatMul", "FusedGemm": "Gemm"}


def exported_names(optimised: onnx.ModelProto, exported: onnx.ModelProto) -> dict[str, str]:
    """Name of each node of ``optimised`` -> name of the node of ``exported`` that it comes from.

    Nodes without a place are left out.
    """
    known = {n.name: n for n in exported.graph.node if n.name}
    makers = {v: n for n in exported.graph.node for v in n.output if v}
    found: dict[str, str] = {}
    claimed: set[str] = set()
    for node in optimised.graph.node:
        if node.name in known:
            found[node.name] = node.name
            claimed.add(node.name)
    for node in optimised.graph.node:
        if node.name not in found and node.op_type not in LAYOUT:
            origin = _origin(node, makers, claimed)
            if origin is not None:
                found[node.name] = origin
                claimed.add(origin)
    _neighbours(optimised.graph.node, found)
    return found


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every function's body in place of its calls, each node named after the call it is of."""
    flat = onnx.inliner.inline_local_functions(model)
    _casts(flat)
    known = {n.name for n in model.graph.node}
    made = [n for n in flat.graph.node if n.name not in known]
    for index, node in enumerate(made):
        node.name = f"unnamed{BODY}{index}"
    found = exported_names(flat, model)
    for index, node in enumerate(made):
        node.name = f"{found.get(node.name, 'unnamed')}{BODY}{index}"
    return flat


def _casts(model: onnx.ModelProto) -> None:
    """CastLike is a function of the standard, which ONNX Runtime expands to a Cast without a name; write it."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {
        v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]
    } | {t.name: t.data_type for t in graph.initializer}
    for node in model.graph.node:
        if node.op_type == "CastLike" and not node.domain and node.input[1] in types:
            node.op_type = "Cast"
            node.attribute.append(onnx.helper.make_attribute("to", types[node.input[1]]))
            del node.input[1]


def _origin(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], claimed: set[str]) -> str | None:
    values = [node.name.removesuffix(BLOCKED)] if node.name.endswith(BLOCKED) else []
    for value in (*values, *node.output):
        if value in makers:
            return _same_operator(node, makers[value], makers, claimed).name or None
    return None


def _same_operator(
    node: onnx.NodeProto,
    start: onnx.NodeProto,
    makers: Mapping[str, onnx.NodeProto],
    claimed: set[str],
) -> onnx.NodeProto:
    """The nearest exported operator of the node's own kind at or before ``start``; else ``start``."""
    kind = ALIASES.get(node.op_type, node.op_type)
    layer, seen = [start], {start.name}
    while layer:
        for candidate in layer:
            if candidate.op_type == kind and candidate.name not in claimed:
                return candidate
        before = []
        for candidate in layer:
            # Not through another operator of this kind: what lies behind it is its own.
            for value in candidate.input if candidate.op_type != kind else ():
                maker = makers.get(value)
                if maker is not None and maker.name not in seen:
                    seen.add(maker.name)
                    before.append(maker)
        layer = before
    return start


def _neighbours(nodes: Sequence[onnx.NodeProto], found: dict[str, str]) -> None:
    """Rules 4 and 5, from the end of the graph to its start."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    makers: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        for value in node.input:
            readers.setdefault(value, []).append(node)
        for value in node.output:
            makers[value] = node
    for node in reversed(nodes):
        if node.name in found:
            continue
        after = {found[r.name] for v in node.output for r in readers.get(v, ()) if r.name in found}
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type == "ReorderInput" and before is not None and before.name in found:
            found[node.name] = found[before.name]
        elif after and (node.op_type == "ReorderOutput" or len({scope(a) for a in after}) == 1):
            found[node.name] = min(after)
        elif node.op_type in LAYOUT and before is not None and before.name in found:
            found[node.name] = found[before.name]


def scope(node_name: str) -> str:
    """``a.b.sru/Mul_7`` -> ``a.b.sru``."""
    return node_name.rpartition("/")[0]


def place(node_name: str, paths: Sequence[str]) -> str | None:
    """The longest of ``paths`` that the node lies in; None outside all. The empty path is the whole network."""
    own = scope(node_name)
    inside = [p for p in paths if not p or own == p or own.startswith(p + ".")]
    return max(inside, key=len, default=None)


def unit(node_name: str, path: str) -> str | None:
    """``SRU`` or ``CRU`` inside the block ``path``; None for what stands between them.

    Our modules call them ``sru`` and ``cru``, the public ones also ``SRU`` and ``CRU``.
    """
    own = scope(node_name)
    own = own[: len(path)] + own[len(path) :].lower()
    for name in ("sru", "cru"):
        inner = f"{path}.{name}" if path else name
        if own == inner or own.startswith(inner + "."):
            return name.upper()
    return None
