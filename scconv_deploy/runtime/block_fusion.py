"""An exported graph with fused nodes -> the same with every SCConv block that allows it as one ``scconv::Block``.

Six nodes of a block and more walk through memory one after the other: SRU, two squeezes, Y1 (GWC, PWC1 and their
Add, or one dense convolution), Y2 and the fuse. One kernel does all of it tile by tile, in ONNX Runtime's blocked
layout alone; so only the runtime makes this node, at load (:mod:`~scconv_deploy.runtime.upgrade`), and no exported
file has it. It computes, with S_up and S_low the squeezes,

    (y_a, y_b) = SRU(x),  up = S_up y_a,  low = S_low y_b,
    y1 = GWC(up) + PWC1(up),  y2 = K low,  out = fuse(y1, y2) [+ added] [ReLU],

where ``K`` is [PWC2; I] or whatever 1x1 convolution the file has. Exact, since only sums of weights change:

* Y1 is read as one dense kernel D (GWC's zeros between its groups; PWC1 at the centre), whichever way it is written,
  added up in float64 and rounded once. Then g, the largest number of groups such that D is zero between groups but
  at its centre, gives GWC back (D within groups) and what is left of PWC1 (the centre between groups).
* Missing biases are zeros, the two of Y1 are added up.
* Where ``up`` or ``low`` do not fill blocks, channels of zeros stand between (in ``up`` as many in each of the g
  groups): their weights are zero on both sides.
* Where pieces of other sizes than C/2 are squeezed (Concat, Split), S_up reads the first I_up channels of
  [y_a; y_b] and S_low the others.

Refused, and left as they are, with a sentence each: what is not of this shape, is read or given out in between,
has another stride, dilation, padding or type, or channels that do not fill blocks.
Packed for blocks of b channels (O outputs, I inputs per group): 1x1 weights (O/b, I, b), GWC (O/b, k, k, I, b).
Twins: ``tests/runtime/test_block_fusion.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scconv_deploy.runtime.block_weights import (
    added_up,
    copied_from,
    largest_groups,
    packed,
    packed_taps,
    places,
    split_groups,
    spread_out,
)
from scconv_deploy.runtime.graph_file import GraphFile
from scconv_deploy.runtime.graph_node import Node
from scconv_deploy.runtime.wiring import Wiring

DOMAIN, BLOCK = "scconv", "Block"
LARGEST = 11
"""Height and width of the largest GWC that the kernel takes."""
VERSION = 1
"""Of the operator as written here; a library that has another one is not given any."""


class NotOneBlockError(Exception):
    """Why a fuse and what is before it stay as they are, as a sentence."""


@dataclass(frozen=True, slots=True)
class _Convolution:
    """Weight (O, I/groups, k, k), k odd, padded so that it keeps height and width; bias (O,)."""

    node: Node
    weight: np.ndarray
    bias: np.ndarray
    groups: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A block's nodes; ``between`` are those that only hand on or add."""

    sru: Node
    squeeze_up: _Convolution
    squeeze_low: _Convolution
    y1: tuple[_Convolution, ...]
    y2: _Convolution
    fuse: Node
    between: tuple[Node, ...]

    @property
    def convolutions(self) -> tuple[_Convolution, ...]:
        return (self.squeeze_up, self.squeeze_low, *self.y1, self.y2)

    @property
    def nodes(self) -> tuple[Node, ...]:
        # A value may be added to itself.
        return tuple(
            dict.fromkeys([self.sru, *(c.node for c in self.convolutions), *self.between, self.fuse])
        )


@dataclass(frozen=True, slots=True)
class _Constants:
    """Names of the packed initializers, in the order of the operator's inputs, and what the kernel must know."""

    names: tuple[str, ...]
    gwc_groups: int
    copied_from: int


def fuse_blocks(graph: GraphFile, block: int) -> tuple[int, list[str]]:
    """Put one node in the place of every block that allows it, in the graph.

    Args:
        graph: as it was exported; its ``scconv`` nodes are of version 1.
        block: channels in a block of this machine's ONNX Runtime.

    Returns:
        How many there are now, and of every fuse that was left why, as sentences.
    """
    wiring = Wiring(graph)
    stored: dict[tuple[object, ...], _Constants] = {}
    left: list[str] = []
    read: set[str] = set()
    count = 0
    for fuse in [n for n in graph.nodes if n.domain == DOMAIN and n.op_type.startswith("CRUFuse_")]:
        try:
            found = _find(graph, wiring, fuse)
            _check_uses(wiring, found)
            _check_channels(graph, found, block)
        except NotOneBlockError as reason:
            left.append(f"{fuse.name or fuse.outputs[0]}: {reason}")
            continue
        read |= {name for node in found.nodes for name in node.inputs}
        key = tuple((c.groups, *c.node.inputs[1:]) for c in found.convolutions)
        if key not in stored:  # a module that is called twice
            stored[key] = _store(graph, wiring, found, block)
        _replace(graph, wiring, found, stored[key], block)
        count += 1
    for name in read:
        if name in graph.dims and name not in graph.outputs and not wiring.readers(name):
            graph.drop_constant(name)
    return count, left


def _find(graph: GraphFile, wiring: Wiring, fuse: Node) -> _Found:
    """Walk back from a fuse."""
    first, second = fuse.inputs[:2]
    y2 = _convolution(graph, wiring.maker(second), "Y2")
    low = _convolution(graph, wiring.maker(y2.node.inputs[0]), "the squeeze before Y2")
    total = wiring.maker(first)
    adds = total is not None and total.op_type == "Add" and not total.domain
    terms = total.inputs if total is not None and adds else [first]
    y1 = tuple(_convolution(graph, wiring.maker(term), "Y1") for term in terms)
    if len({c.node.inputs[0] for c in y1}) != 1:
        raise NotOneBlockError("the two terms of Y1 do not read the same value")
    up = _convolution(graph, wiring.maker(y1[0].node.inputs[0]), "the squeeze before Y1")
    sru, pieces = _sru(wiring, up.node.inputs[0], low.node.inputs[0])
    between = (*pieces, *([total] if total is not None and adds else []))
    return _Found(sru, up, low, y1, y2, fuse, between)


def _sru(wiring: Wiring, up: str, low: str) -> tuple[Node, tuple[Node, ...]]:
    """The SRU whose halves, or pieces of them put together, two values are; with the nodes between."""
    between: tuple[Node, ...] = ()
    maker = wiring.maker(up)
    pieces = [up, low]
    if maker is not None and maker.op_type == "Split" and not maker.domain:
        whole = wiring.maker(maker.inputs[0])
        if whole is None or whole.op_type != "Concat" or whole.domain:
            raise NotOneBlockError("what its squeezes read is cut from something else than an SRU's halves")
        if maker.integer("axis", 0) != 1 or whole.integer("axis", 0) != 1 or maker.outputs != pieces:
            raise NotOneBlockError("its squeezes do not read the two pieces of its channels in their order")
        between, pieces = (whole, maker), whole.inputs
        maker = wiring.maker(pieces[0])
    is_sru = maker is not None and maker.domain == DOMAIN and maker.op_type.startswith("SRU_")
    if maker is None or not is_sru or maker.outputs != pieces:
        raise NotOneBlockError("its squeezes do not read an SRU's two halves in their order")
    return maker, between


def _convolution(graph: GraphFile, node: Node | None, role: str) -> _Convolution:
    if node is None or node.op_type != "Conv" or node.domain:
        raise NotOneBlockError(f"{role} is not a convolution")
    weight = graph.constant(node.inputs[1])
    if weight is None or weight.ndim != 4:
        raise NotOneBlockError(f"the weight of {role} is no constant of four axes in float32 in this file")
    size, other = weight.shape[2:]
    pad = (size - 1) // 2
    ones, pads = {1}, set(node.integers("pads")) or {0}
    if size != other or size % 2 == 0 or pads != {pad} or node.text("auto_pad") not in ("", "NOTSET"):
        raise NotOneBlockError(f"{role} does not keep height and width with an odd, square kernel")
    if set(node.integers("strides")) | set(node.integers("dilations")) | ones != ones:
        raise NotOneBlockError(f"{role} has a stride or a dilation")
    bias: np.ndarray | None = np.zeros(len(weight), np.float32)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = graph.constant(node.inputs[2])
    if bias is None:
        raise NotOneBlockError(f"the bias of {role} is no constant in float32 in this file")
    return _Convolution(node, weight, bias, node.integer("group", 1))


def _check_uses(wiring: Wiring, found: _Found) -> None:
    inside = set(found.nodes)
    for node in inside - {found.fuse}:
        for name in node.outputs:
            if name in wiring.outputs:
                raise NotOneBlockError(f"{name} in its middle is an output of the model")
            if not set(wiring.readers(name)) <= inside:
                raise NotOneBlockError(f"{name} in its middle is also read elsewhere")


def _check_channels(graph: GraphFile, found: _Found, block: int) -> None:
    for role, c in (("squeeze", found.squeeze_up), ("squeeze", found.squeeze_low), ("Y2", found.y2)):
        if c.groups != 1 or c.weight.shape[2] != 1:
            raise NotOneBlockError(f"its {role} is not a 1x1 convolution without groups")
    if len({len(c.weight) for c in (*found.y1, found.y2)}) != 1:
        raise NotOneBlockError("the terms of Y1 and Y2 have different channels")
    size = max(c.weight.shape[2] for c in found.y1)
    if size > LARGEST:
        raise NotOneBlockError(f"Y1 is {size}x{size}; the kernel goes up to {LARGEST}x{LARGEST}")
    scale = graph.dims.get(found.sru.inputs[1], (0,))
    channels = int(np.prod(scale))
    up, low = (c.weight.shape[1] for c in (found.squeeze_up, found.squeeze_low))
    if channels == 0 or up + low != channels or (up != low and not found.between):
        raise NotOneBlockError(f"its squeezes read {up} and {low} channels, and its SRU has {channels}")
    for count in (channels // 2, up, len(found.y2.weight)):
        if count % block:
            raise NotOneBlockError(f"{count} channels do not fill blocks of {block}")
    groups = found.sru.integer("groups", 1)
    if channels % 2 or channels % groups:
        raise NotOneBlockError(f"its SRU has {groups} groups of {channels} channels, not whole ones each")


def _store(graph: GraphFile, wiring: Wiring, found: _Found, block: int) -> _Constants:
    dense = added_up([(c.weight, c.groups) for c in found.y1])
    groups = largest_groups(dense, block)
    up, low = places(dense.shape[1], groups, block), places(len(found.squeeze_low.weight), 1, block)
    taps, between = split_groups(spread_out(dense, 1, up), groups)
    bias: np.ndarray = np.stack([c.bias for c in found.y1]).sum(axis=0, dtype=np.float64)
    y2 = spread_out(found.y2.weight[:, :, 0, 0], 1, low)
    arrays: list[tuple[_Convolution, np.ndarray]] = []
    for squeeze, where in ((found.squeeze_up, up), (found.squeeze_low, low)):
        rows = spread_out(squeeze.weight[:, :, 0, 0], 0, where)
        arrays += [(squeeze, packed(rows, block)), (squeeze, spread_out(squeeze.bias, 0, where))]
    first = found.y1[0]
    arrays += [(first, packed_taps(taps, block)), (first, packed(between, block)), (first, bias)]
    arrays += [(found.y2, packed(y2, block)), (found.y2, found.y2.bias)]
    names = []
    for source, array in arrays:
        names.append(wiring.fresh(source.node.inputs[1]))
        graph.add_constant(names[-1], array.astype(np.float32))
    return _Constants(tuple(names), groups, copied_from(y2, found.y2.bias, block))


def _replace(graph: GraphFile, wiring: Wiring, found: _Found, constants: _Constants, block: int) -> None:
    sru, fuse = found.sru, found.fuse
    node = Node(
        BLOCK, [*sru.inputs, *constants.names, *fuse.inputs[2:]], list(fuse.outputs), DOMAIN, fuse.name
    )
    node.rest = [a for name in ("groups", "epsilon", "logit") if (a := sru.attribute(name)) is not None]
    node.set_text("sru", sru.op_type)
    node.set_text("fuse", fuse.op_type)
    node.set_integer("block", block)
    node.set_integer("channels", len(found.y2.weight))
    node.set_integer("gwc_groups", constants.gwc_groups)
    node.set_integer("kernel", max(c.weight.shape[2] for c in found.y1))
    node.set_integer("y2_copied_from", constants.copied_from)
    wiring.add(node, graph.nodes.index(fuse))
    for old in found.nodes:
        wiring.drop(old)
