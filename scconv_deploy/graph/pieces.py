"""An ONNX graph -> sub-models: one per SCConv block, and the rest with every block cut out.

Cutting sub-models out, rather than marking inner tensors as outputs, leaves what runtimes fuse inside each
piece as it is. Blocks are found by node names (see :mod:`scconv_deploy.graph.names`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from scconv_deploy.graph.names import belongs_to


@dataclass(frozen=True, slots=True)
class Piece:
    """A sub-model with the names of the values at its border in the whole graph."""

    name: str
    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def block_piece(model: onnx.ModelProto, path: str) -> Piece | None:
    """The sub-model of one block, or None where its border is not one tensor in, one tensor out."""
    nodes = [node for node in model.graph.node if belongs_to(node.name, path)]
    piece = cut(model, nodes, path, ())
    if piece is None or len(piece.inputs) != 1 or len(piece.outputs) != 1:
        return None
    return piece


def rest_piece(model: onnx.ModelProto, blocks: Sequence[Piece]) -> Piece | None:
    """Everything outside ``blocks``: reads their outputs as inputs and yields their inputs as outputs."""
    return cut(model, rest_nodes(model, blocks), "", [name for b in blocks for name in b.inputs])


def rest_nodes(model: onnx.ModelProto, blocks: Sequence[Piece]) -> list[onnx.NodeProto]:
    """The nodes outside ``blocks``, in the graph's order."""
    paths = [b.name for b in blocks]
    return [n for n in model.graph.node if not any(belongs_to(n.name, p) for p in paths)]


def cut(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], name: str, also_out: Iterable[str]
) -> Piece | None:
    """A sub-model of ``nodes`` (in the graph's order); its outputs are what other nodes, the graph or
    ``also_out`` ask of them. None where there are no nodes, or a value at the border has no known type."""
    if not nodes:
        return None
    graph = model.graph
    constants = {t.name: t for t in graph.initializer}
    made = {value for node in nodes for value in node.output if value}
    own = {id(node) for node in nodes}
    wanted_outside = {v.name for v in graph.output} | set(also_out)
    for node in graph.node:
        if id(node) not in own:
            wanted_outside.update(reads(node))
    read = list(dict.fromkeys(v for node in nodes for v in reads(node)))
    inputs = [v for v in read if v not in made and v not in constants]
    outputs = list(dict.fromkeys(v for node in nodes for v in node.output if v in wanted_outside))
    types = {v.name: v for v in [*graph.value_info, *graph.input, *graph.output]}
    if not outputs or any(v not in types for v in inputs):
        return None
    piece = onnx.helper.make_graph(
        nodes,
        name or "rest",
        [types[v] for v in inputs],
        # An output's own shape may be missing from value_info; its type is then inferred by the runtime.
        [types.get(v) or onnx.helper.make_empty_tensor_value_info(v) for v in outputs],
        [constants[v] for v in read if v in constants],
    )
    cut = onnx.helper.make_model(piece, opset_imports=model.opset_import, functions=model.functions)
    cut.ir_version = model.ir_version
    return Piece(name, cut, tuple(inputs), tuple(outputs))


def reads(node: onnx.NodeProto) -> list[str]:
    """Values a node reads, those of its subgraphs included."""
    names = [v for v in node.input if v]
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            names += [v for inner in graph.node for v in reads(inner)]
    return names
