"""ONNX Runtime's optimised graph -> the same with our operators in its blocked layout.

ONNX Runtime's convolutions work on blocks of 8 or 16 channels, (N, C/block, H, W, block) in memory, and it puts a
ReorderOutput before and a ReorderInput after every operator that it does not know; ours among them. Both are
permutations, and a ReorderInput undoes a ReorderOutput. SRU and the fuse do the same to every channel at every
position, so a kernel that reads and writes the blocked order computes the same values, and the permutations around
it fall away: 5 % of a pass.

Exact where a block holds no padding: ``C/2`` of an SRU and ``C`` of a fuse are multiples of the block, and the
SRU's groups are whole channels. A node is rewired where that takes away more permutations than it adds (a
neighbour that stays planar gets one of its own). Refused: graphs in which there is no such node.

First, an Add and a ReLU that are all that is done with a fuse's result go into its kernel:
``ReLU(fuse(y1, y2) + r)``; the Add in float32 only and only where ``r`` has the very shape of the fuse's result.

A whole block in one node (:mod:`~scconv_deploy.runtime.block_fusion`) has a kernel for this layout alone, so it is
always rewired, and what follows it is written into its attribute ``fuse``.
Twins: ``tests/runtime/test_blocked.py``.
"""

from __future__ import annotations

from scconv_deploy.runtime.block_fusion import BLOCK
from scconv_deploy.runtime.graph_file import GraphFile
from scconv_deploy.runtime.graph_node import Node
from scconv_deploy.runtime.protobuf import Field, fields_of
from scconv_deploy.runtime.wiring import Wiring

BLOCKED_DOMAIN = "com.microsoft.nchwc"
OUR_DOMAIN = "scconv"
TO_BLOCKS, FROM_BLOCKS = "ReorderInput", "ReorderOutput"
FLOAT = 1


class NotBlockedError(Exception):
    """Why a graph stays as it is, as a sentence."""


def use_blocks(graph: GraphFile, block: int) -> int:
    """Rewire, in place; returns how many nodes of ours now work on blocks.

    Args:
        graph: as ONNX Runtime optimised it.
        block: channels in a block of this machine's ONNX Runtime.

    Raises:
        NotBlockedError: no node gains by it.
    """
    wiring = Wiring(graph)
    for node in [n for n in graph.nodes if _is_fuse(n) or _is_whole(n)]:
        _take_in_add(graph, wiring, node)
        _take_in_relu(graph, wiring, node)
    waiting = [n for n in graph.nodes if n.domain == OUR_DOMAIN]
    if not waiting:
        raise NotBlockedError("ONNX Runtime left no scconv node in its optimised graph")
    chosen = _choose(graph, wiring, waiting, block)
    if not chosen:
        raise NotBlockedError(
            f"no scconv node stands between tensors in blocks of {block} with channels that fill them"
        )
    for node, channels in chosen.items():
        _rewire(graph, wiring, node, channels, block)
    return len(chosen)


def _choose(graph: GraphFile, wiring: Wiring, nodes: list[Node], block: int) -> dict[Node, int]:
    """Nodes that are to work on blocks, with their channels: all that can, less those that cost permutations.

    Begun with all of them because two neighbours may gain by what neither gains alone.
    """
    sizes = {node: _channels(graph, wiring, node) for node in nodes}
    able = {node: size for node, size in sizes.items() if size and _fits(graph, wiring, node, size, block)}
    chosen = set(able)
    changed = True
    while changed:
        changed = False
        for node in able:
            if node not in chosen or _is_whole(node):
                continue
            if _cost(wiring, node, chosen - {node}) < _cost(wiring, node, chosen):
                chosen.remove(node)
                changed = True
    return {node: size for node, size in able.items() if node in chosen}


def _is_fuse(node: Node) -> bool:
    return node.domain == OUR_DOMAIN and node.op_type.startswith("CRUFuse_")


def _is_whole(node: Node) -> bool:
    return node.domain == OUR_DOMAIN and node.op_type == BLOCK


def _flags(node: Node) -> list[str]:
    return (node.text("fuse") if _is_whole(node) else node.op_type).split("_")[2:]


def _set_flag(node: Node, flag: str) -> None:
    if _is_whole(node):
        node.set_text("fuse", f"{node.text('fuse')}_{flag}")
    else:
        node.op_type += f"_{flag}"


def _take_in_add(graph: GraphFile, wiring: Wiring, node: Node) -> None:
    add = wiring.only_reader(node.outputs[0])
    if add is None or add.op_type != "Add" or add.domain or {"add", "relu"} & set(_flags(node)):
        return
    (other,) = [name for name in add.inputs if name != node.outputs[0]] or [""]
    kind = graph.types.get(node.outputs[0], b"")
    if not other or other in graph.dims or graph.types.get(other) != kind:
        return
    if not (_is_float(kind) and _is_fixed(kind)):
        return
    _set_flag(node, "add")
    wiring.read_also(node, other)
    wiring.take_over(node, add)


def _take_in_relu(graph: GraphFile, wiring: Wiring, node: Node) -> None:
    relu = wiring.only_reader(node.outputs[0])
    if relu is None or relu.op_type != "Relu" or relu.domain or "relu" in _flags(node):
        return
    _set_flag(node, "relu")
    graph.types.setdefault(relu.outputs[0], graph.types.get(node.outputs[0], b""))
    wiring.take_over(node, relu)


def _is_float(kind: bytes) -> bool:
    """Whether a TypeProto is a tensor of float32."""
    return any(inner[1].integer == FLOAT for inner in _tensors(kind) if 1 in inner)


def _is_fixed(kind: bytes) -> bool:
    """Whether every extent of a tensor has a number or a name, so that equal types are equal shapes."""
    shapes = [list(fields_of(inner[2].data)) for inner in _tensors(kind) if 2 in inner]
    return bool(shapes) and all(len(extent.data) > 0 for extent in shapes[0])


def _tensors(kind: bytes) -> list[dict[int, Field]]:
    return [{f.number: f for f in fields_of(part.data)} for part in fields_of(kind) if part.number == 1]


def _activations(node: Node) -> list[str]:
    added = node.inputs[-1:] if "add" in _flags(node) else []
    return [*node.inputs[: 2 if _is_fuse(node) else 1], *added]


def _channels(graph: GraphFile, wiring: Wiring, node: Node) -> int | None:
    """Of the node's first input; None where nothing says so."""
    for name in _activations(node)[:1] if _is_whole(node) else _activations(node):
        maker = wiring.maker(name)
        if maker is not None and _is_planar_end(maker):
            return maker.integer("channels", 0)
    constants = [name for name in node.inputs if name in graph.dims]
    if not constants:
        return None
    size = 1
    for extent in graph.dims[constants[0]]:
        size *= extent
    return size


def _is_planar_end(node: Node | None) -> bool:
    """A ReorderOutput to (N, C, H, W)."""
    return _is_reorder(node, FROM_BLOCKS)


def _is_reorder(node: Node | None, kind: str) -> bool:
    return (
        node is not None
        and node.domain == BLOCKED_DOMAIN
        and node.op_type == kind
        and node.integer("channels_last", 0) == 0
    )


def _made_channels(node: Node, channels: int) -> int:
    """Of each output, where the inputs have ``channels``."""
    if _is_whole(node):
        return node.integer("channels", channels)
    return channels if _is_fuse(node) else channels // 2


def _fits(graph: GraphFile, wiring: Wiring, node: Node, channels: int, block: int) -> bool:
    if _is_whole(node):
        return True  # or it would not have been made
    halves = 1 if _is_fuse(node) else 2
    if channels % (halves * block) or channels % node.integer("groups", 1):
        return False
    # ONNX Runtime's permutations are for float32 alone.
    values = [*_activations(node), *node.outputs]
    return any(
        _is_float(graph.types.get(value, b""))
        or _is_planar_end(wiring.maker(value))
        or any(_is_reorder(reader, TO_BLOCKS) for reader in wiring.readers(value))
        for value in values
    )


def _cost(wiring: Wiring, node: Node, chosen: set[Node]) -> int:
    """Permutations of the values around a node, where ``chosen`` work on blocks."""
    cost = 0
    for name in {*_activations(node), *node.outputs}:
        maker, readers = wiring.maker(name), wiring.readers(name)
        on_blocks = [r for r in readers if r in chosen or _is_reorder(r, TO_BLOCKS)]
        if maker in chosen or _is_planar_end(maker):
            cost += len(on_blocks) < len(readers) or name in wiring.outputs
        else:
            cost += bool(on_blocks)
    return cost


def _rewire(graph: GraphFile, wiring: Wiring, node: Node, channels: int, block: int) -> None:
    for name in dict.fromkeys(_activations(node)):
        maker = wiring.maker(name)
        reorders = [r for r in wiring.readers(name) if _is_reorder(r, TO_BLOCKS)]
        if maker is not None and _is_planar_end(maker):
            source = maker.inputs[0]
        elif reorders:
            source = reorders[0].outputs[0]
        else:
            source = wiring.fresh(name)
            wiring.add(Node(TO_BLOCKS, [name], [source], BLOCKED_DOMAIN, source))
        wiring.read_instead(node, name, source)
        if maker is not None and _is_planar_end(maker):
            wiring.drop_unread(maker)
    for name in list(node.outputs):
        made = wiring.fresh(name)
        # Of the same four extents. Without them ONNX Runtime would not plan the convolutions behind to add
        # their residual in place, and copies it: a sixth of a ResNet-50 at batch 8.
        graph.types[made] = graph.types.get(name, b"")
        wiring.make_instead(node, name, made)
        for reorder in [r for r in wiring.readers(name) if _is_reorder(r, TO_BLOCKS)]:
            for reader in list(wiring.readers(reorder.outputs[0])):
                wiring.read_instead(reader, reorder.outputs[0], made)
            wiring.drop(reorder)
        if wiring.readers(name) or name in wiring.outputs:
            back = Node(FROM_BLOCKS, [made], [name], BLOCKED_DOMAIN, f"{made}/back")
            back.set_integer("channels", _made_channels(node, channels))
            wiring.add(back)
    node.set_integer("block", block)
