"""An SCConv block inside an ONNX graph -> its units, its gate, and sub-models cut at both.

Units are found by node names (``<path>.sru/...``, ``<path>.cru/...``), the gate as the one comparison inside
the SRU. Sub-models are cut so that what is wanted is their only output: marking inner values of a larger
model changes what a runtime fuses, and with it the very rounding that is to be measured.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.pieces import Piece, cut, reads

COMPARISONS = {"Greater": 1, "GreaterOrEqual": 1, "Less": -1, "LessOrEqual": -1}
"""Operators that may be a gate, and the sign of "left minus right" for which they are true."""

HALF_TYPES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


@dataclass(frozen=True, slots=True)
class Gate:
    """The comparison that makes an SRU's mask: its name, operator, operands and result in the whole graph."""

    node: str
    kind: str
    left: str
    right: str
    mask: str
    half: bool
    """Whether its operands are computed in a 16-bit type."""
    literal: bool
    """Whether it compares a sigmoid, as the paper writes it."""

    @property
    def sign(self) -> int:
        """+1 where the mask is true for ``left > right``, -1 where for ``left < right``."""
        return COMPARISONS[self.kind]


@dataclass(frozen=True, slots=True)
class Units:
    """Names of the values at the border of a block's SRU, and its gate (None where it cannot be told)."""

    sru_input: str | None
    halves: tuple[str, ...]
    gate: Gate | None


def find_units(model: onnx.ModelProto, path: str) -> Units:
    """Look at one block of ``model``, whose values must carry types (``onnx.shape_inference``)."""
    nodes = sru_nodes(model, path)
    piece = cut(model, nodes, path, ())
    if piece is None:
        return Units(None, (), None)
    source = piece.inputs[0] if len(piece.inputs) == 1 else None
    return Units(source, piece.outputs, _gate(model, nodes))


def sru_nodes(model: onnx.ModelProto, path: str) -> list[onnx.NodeProto]:
    """The nodes of the block's SRU, in the graph's order."""
    return [n for n in model.graph.node if belongs_to(n.name, f"{path}.sru" if path else "sru")]


def sru_piece(model: onnx.ModelProto, path: str) -> Piece | None:
    """The SRU alone: its input -> its halves."""
    return cut(model, sru_nodes(model, path), path, ())


def mask_piece(model: onnx.ModelProto, path: str, gate: Gate) -> Piece | None:
    """The SRU's input -> the mask, and nothing else."""
    needed = _upstream(sru_nodes(model, path), [gate.mask], ())
    return _only(cut(model, needed, path, [gate.mask]), [gate.mask])


def forced_piece(model: onnx.ModelProto, block: Piece, gate: Gate) -> Piece | None:
    """The block with its mask as an input: (x, mask) -> output."""
    own = {node.name for node in block.model.graph.node}
    nodes = [n for n in model.graph.node if n.name in own]
    needed = _upstream(nodes, block.outputs, (gate.mask,))
    piece = _only(cut(model, needed, block.name, ()), block.outputs)
    if piece is None or set(piece.inputs) - {gate.mask} != set(block.inputs):
        return None
    return piece


def _only(piece: Piece | None, outputs: Sequence[str]) -> Piece | None:
    """Without the outputs that only nodes outside ask for: an inner output changes what is fused."""
    if piece is None:
        return None
    kept = [v for v in piece.model.graph.output if v.name in outputs]
    del piece.model.graph.output[:]
    piece.model.graph.output.extend(kept)
    return Piece(piece.name, piece.model, piece.inputs, tuple(v.name for v in kept))


def _upstream(
    nodes: Sequence[onnx.NodeProto], wanted: Sequence[str], stops: Collection[str]
) -> list[onnx.NodeProto]:
    """Those of ``nodes`` (in topological order) that ``wanted`` depends on, not looking beyond ``stops``."""
    needed, found = set(wanted), []
    for node in reversed(nodes):
        if any(v in needed and v not in stops for v in node.output):
            found.append(node)
            needed.update(reads(node))
    return found[::-1]


def _gate(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> Gate | None:
    found = [n for n in nodes if n.op_type in COMPARISONS and not n.domain]
    if len(found) != 1:
        return None
    node = found[0]
    makers = {v: n for n in nodes for v in n.output}
    kinds = element_types(model)
    operand = node.input[0]
    half = kinds.get(operand) in HALF_TYPES
    maker = makers.get(operand)
    while maker is not None and maker.op_type == "Cast":
        # A cast behind the rounding does not undo it.
        half = half or kinds.get(maker.input[0]) in HALF_TYPES
        maker = makers.get(maker.input[0])
    literal = maker is not None and maker.op_type == "Sigmoid"
    if literal and maker is not None:
        half = half or kinds.get(maker.input[0]) in HALF_TYPES
    return Gate(node.name, node.op_type, node.input[0], node.input[1], node.output[0], half, literal)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of every value and constant of the main graph whose type is stated."""
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    return types | {t.name: t.data_type for t in graph.initializer}


def float_types(model: onnx.ModelProto, piece: Piece) -> set[str]:
    """Floating-point types of the values in ``piece``; ``model`` is the whole graph, with inner types."""
    kinds = element_types(model)
    names = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.DOUBLE: "fp64",
    }
    used = {kinds.get(v) for node in piece.model.graph.node for v in (*reads(node), *node.output)}
    return {names[kind] for kind in used if kind in names}
