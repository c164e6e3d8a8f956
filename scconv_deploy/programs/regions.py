"""A flat ONNX graph -> the regions that may be SCConv blocks, found by shape and never by name.

Anchors are what no SRU or CRU can do without: a comparison of (or a constant mask on) a normalised tensor, and
a softmax of pooled channels. Around each the *smallest* part of the graph is taken that has one tensor
in and one tensor out, both images, and holds what the unit needs: a norm and per-channel vectors, or five
convolutions. Regions only propose; what they compute is certified numerically by ``recognition``. Names give
no more than the path under which a region is reported. Imports onnx and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import onnx

from scconv_deploy.graph.names import module_path
from scconv_deploy.programs.dataflow import Flow, bits

COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
NORMS = frozenset(
    {"InstanceNormalization", "GroupNormalization", "LayerNormalization", "MeanVarianceNormalization"}
    | {"Sqrt", "Pow", "ReduceL2"}
)
WEIGHTED_SUMS = frozenset({"Add", "Sum", "ReduceSum"})
"""What ends a CRU: the branches, multiplied by their softmax weights, are added."""
CRU_CONVOLUTIONS = 5
REACH = 72
"""Data nodes looked at on either side of an anchor; a whole block has about forty."""
LARGEST = 160
IMAGE_RANK = 4


@dataclass(frozen=True, slots=True)
class Region:
    """A cut with one tensor in and one out. ``kind`` is "SRU", "CRU" or "SCConv"; ``parts`` lie inside it.

    ``nodes`` are indices of data nodes; constants and shapes that they read go along with them.
    """

    kind: str
    path: str
    entry: str
    leaving: str
    nodes: tuple[int, ...]
    parts: tuple[Region, ...] = ()
    module_path: str = ""
    """Common module path of the nodes; ``path`` is another where that one is taken or unknown."""


@dataclass(frozen=True, slots=True)
class _Cut:
    entry: str
    leaving: str
    nodes: int


def find_regions(model: onnx.ModelProto) -> tuple[Region, ...]:
    """Every region that may be an SCConv block or a unit of one, outermost, in the graph's order.

    Args:
        model: with shapes of inner values where they are known (``onnx.shape_inference`` gives them).
    """
    flow = Flow(model)
    gates = _distinct(_smallest(flow, anchors, _may_be_sru) for anchors in _gate_anchors(flow))
    fuses = _distinct(_smallest(flow, 1 << i, _may_be_cru) for i in _softmaxes(flow))
    wholes = [c for c in _whole_blocks(flow) if not _holds_more(c, gates, fuses)]
    regions = []
    for cut in wholes:
        parts = [("SRU", c) for c in gates if c.nodes & ~cut.nodes == 0 and c.nodes != cut.nodes]
        parts += [("CRU", c) for c in fuses if c.nodes & ~cut.nodes == 0 and c.nodes != cut.nodes]
        regions.append(_region(flow, "SCConv", cut, parts))
    taken = _union(wholes)
    for kind, cuts in (("SRU", gates), ("CRU", fuses)):
        for cut in cuts:
            if not cut.nodes & taken:
                taken |= cut.nodes
                regions.append(_region(flow, kind, cut))
    return _with_paths(flow, sorted(regions, key=lambda r: r.nodes[0]))


def _holds_more(cut: _Cut, gates: Iterable[_Cut], fuses: Iterable[_Cut]) -> bool:
    """Whether something stands between two complete units: then they are two regions, not one block."""
    gate, fuse = (next((c for c in cuts if not c.nodes & ~cut.nodes), None) for cuts in (gates, fuses))
    return gate is not None and fuse is not None and cut.nodes != gate.nodes | fuse.nodes


def _region(flow: Flow, kind: str, cut: _Cut, parts: Iterable[tuple[str, _Cut]] = ()) -> Region:
    inner: list[Region] = []
    for name, part in parts:
        if all(not part.nodes >> i & 1 for region in inner for i in region.nodes):
            inner.append(_region(flow, name, part))
    nodes = tuple(bits(cut.nodes))
    path = _common_path(flow, nodes)
    return Region(kind, path, cut.entry, cut.leaving, nodes, tuple(inner), path)


def _gate_anchors(flow: Flow) -> Iterator[int]:
    """Comparisons of one and the same tensor; sigmoids that a constant mask multiplies (family F0, folded)."""
    compared: dict[str, int] = {}
    for index in flow.data_nodes():
        node = flow.nodes[index]
        if node.op_type in COMPARISONS:
            for value in flow.reads(index):
                compared[value] = compared.get(value, 0) | 1 << index
        elif node.op_type == "Sigmoid" and _masked(flow, node.output[0]):
            compared[node.output[0]] = compared.get(node.output[0], 0) | 1 << index
    yield from compared.values()


def _masked(flow: Flow, value: str) -> bool:
    """Two products, one of them with a constant: a simplifier drops the other's, where it is all ones."""
    products = [i for i in bits(flow.readers.get(value, 0)) if flow.nodes[i].op_type == "Mul"]
    return len(products) >= 2 and any(v in flow.constant for i in products for v in flow.nodes[i].input)


def _softmaxes(flow: Flow) -> list[int]:
    return [i for i in flow.data_nodes() if flow.nodes[i].op_type == "Softmax"]


def _may_be_sru(flow: Flow, cut: _Cut) -> bool:
    """No convolution, a norm written in any way, the same shape behind it as before it."""
    before, behind = flow.shape_of.get(cut.entry), flow.shape_of.get(cut.leaving)
    if before and behind and {type(before[1]), type(behind[1])} == {int} and before[1] != behind[1]:
        return False
    if flow.count(cut.nodes, ("Conv", "Softmax", "Gemm", "MatMul")) or _made_by(flow, cut) != "Concat":
        return False
    return flow.count(cut.nodes, NORMS) > 0 and _vectors(flow, cut) >= 2


def _vectors(flow: Flow, cut: _Cut) -> int:
    """How many constants take part in the arithmetic or the norms of the region."""
    kinds = ("Mul", "Add", "Sub", "Div", "GroupNormalization", "InstanceNormalization", "Greater", "Less")
    read = {
        v
        for i in bits(cut.nodes)
        if flow.nodes[i].op_type in kinds
        for v in flow.nodes[i].input
        if v in flow.constant
    }
    return len(read)


def _may_be_cru(flow: Flow, cut: _Cut) -> bool:
    return (
        flow.count(cut.nodes, ("Conv",)) == CRU_CONVOLUTIONS
        and flow.count(cut.nodes, ("Softmax",)) == 1
        and flow.count(cut.nodes, COMPARISONS) == 0
        and _made_by(flow, cut) in WEIGHTED_SUMS
    )


def _may_be_whole(flow: Flow, cut: _Cut) -> bool:
    return (
        flow.count(cut.nodes, ("Conv",)) == CRU_CONVOLUTIONS
        and flow.count(cut.nodes, ("Softmax",)) == 1
        and flow.count(cut.nodes, NORMS) > 0
        and _made_by(flow, cut) in WEIGHTED_SUMS | {"Concat"}
    )


def _made_by(flow: Flow, cut: _Cut) -> str:
    """The operator that makes the region's result."""
    return str(flow.nodes[flow.maker[cut.leaving]].op_type)


def _whole_blocks(flow: Flow) -> list[_Cut]:
    """Pairs of a gate and a softmax that fit into one region; of overlapping ones the better named, or first."""
    found = []
    for anchors in _gate_anchors(flow):
        for softmax in _softmaxes(flow):
            first = next(bits(anchors))
            if abs(first - softmax) > 2 * LARGEST:
                continue
            if not (flow.below[first] >> softmax & 1 or flow.above[first] >> softmax & 1):
                continue
            cut = _smallest(flow, anchors | 1 << softmax, _may_be_whole)
            if cut is not None:
                found.append(cut)
    depth = {c: len(list(filter(None, _common_path(flow, tuple(bits(c.nodes))).split(".")))) for c in found}
    chosen: list[_Cut] = []
    for cut in sorted(set(found), key=lambda c: (-depth[c], next(bits(c.nodes)), c.nodes.bit_count())):
        if not cut.nodes & _union(chosen):
            chosen.append(cut)
    return chosen


def _smallest(flow: Flow, anchors: int, fits: Callable[[Flow, _Cut], bool]) -> _Cut | None:
    """The region with the fewest nodes that holds the anchors and fits."""
    order = list(bits(anchors))
    entries = _nearest(flow, _all(flow.above[i] for i in order), last=True)
    exits = _nearest(flow, _all(flow.below[i] for i in order), last=False)
    best: _Cut | None = None
    for entry in [*entries, *(v.name for v in flow.model.graph.input if v.name not in flow.constant)]:
        if not _is_image(flow, entry):
            continue
        after = flow.after(entry)
        if anchors & ~after:
            continue
        for leaving in exits:
            last = flow.maker[leaving]
            size = (after & (flow.above[last] | 1 << last)).bit_count()
            if size > LARGEST or (best is not None and size >= best.nodes.bit_count()):
                continue
            if not _is_image(flow, leaving):
                continue
            nodes = flow.between(entry, leaving)
            if nodes is None or anchors & ~nodes:
                continue
            cut = _Cut(entry, leaving, nodes)
            if fits(flow, cut):
                best = cut
    return best


def _nearest(flow: Flow, nodes: int, *, last: bool) -> list[str]:
    order = list(bits(nodes))
    near = order[-REACH:][::-1] if last else order[:REACH]
    return [v for i in near for v in flow.nodes[i].output if v in flow.readers or not last]


def _all(sets: Iterable[int]) -> int:
    found = -1
    for one in sets:
        found &= one
    return found


def _is_image(flow: Flow, value: str) -> bool:
    shape = flow.shape_of.get(value)
    return shape is None or len(shape) == IMAGE_RANK


def _union(cuts: Iterable[_Cut]) -> int:
    found = 0
    for cut in cuts:
        found |= cut.nodes
    return found


def _distinct(cuts: Iterable[_Cut | None]) -> list[_Cut]:
    return list(dict.fromkeys(c for c in cuts if c is not None))


def node_path(node: onnx.NodeProto) -> str:
    """Module path of a node as its exporter recorded it: scopes, ``/layer1/layer1.0/conv2/Conv`` or ``a.b/Conv``."""
    recorded = module_path(node)
    if recorded or not node.name:
        return recorded
    path = ""
    for part in filter(None, node.name.split("/")[:-1]):
        # torch's older exporter repeats the whole path of a Sequential's children.
        path = part if not path or part.startswith(path + ".") else f"{path}.{part}"
    return path


def _common_path(flow: Flow, nodes: Iterable[int]) -> str:
    paths = [p.split(".") for p in (node_path(flow.nodes[i]) for i in nodes) if p]
    if not paths:
        return ""
    shared = 0
    while all(len(p) > shared and p[shared] == paths[0][shared] for p in paths):
        shared += 1
    return ".".join(paths[0][:shared])


def _with_paths(flow: Flow, regions: list[Region]) -> tuple[Region, ...]:
    """A path of its own for every region: its nodes' common module path, unless others live there, too."""
    inside = {i for region in regions for i in region.nodes}
    foreign = {node_path(flow.nodes[i]) for i in flow.data_nodes() if i not in inside}
    taken: set[str] = set()
    named = []
    for number, region in enumerate(regions, 1):
        path = region.path
        crowded = not path or any(p == path or p.startswith(path + ".") for p in foreign | taken)
        if crowded or any(path.startswith(t + ".") for t in taken):
            path = f"scconv_{number}"
        taken.add(path)
        parts = [_part_path(path, region, p, i) for i, p in enumerate(region.parts)]
        named.append(replace(region, path=path, parts=tuple(parts)))
    return tuple(named)


def _part_path(path: str, whole: Region, part: Region, number: int) -> Region:
    inner = part.path.removeprefix(whole.path + ".") if part.path.startswith(whole.path + ".") else ""
    others = [p.path for i, p in enumerate(whole.parts) if i != number]
    if not inner or part.path in others or "." in inner:
        inner = part.kind.lower()
    return replace(part, path=f"{path}.{inner}")
