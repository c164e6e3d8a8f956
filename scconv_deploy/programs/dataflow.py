"""An ONNX graph -> who feeds whom, with constants and shapes set apart, and cuts between two values.

A node counts as *data* if it depends on the values of an input. Nodes that depend on constants only, and nodes
that depend on nothing but the *shape* of tensors (``Shape`` and the arithmetic behind it), are set apart:
they go along with whatever reads them. Sets of data nodes are Python integers used as bit sets. Imports
onnx and no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx

Shape = tuple[int | str | None, ...]


@dataclass(slots=True)
class Flow:
    """Who made and who reads every value; nodes by their index in the graph (topological order)."""

    model: onnx.ModelProto
    nodes: list[onnx.NodeProto] = field(init=False)
    maker: dict[str, int] = field(default_factory=dict)
    data: list[bool] = field(default_factory=list)
    constant: set[str] = field(default_factory=set)
    """Values that are known without any input."""
    shapes_only: set[str] = field(default_factory=set)
    """Values that depend on inputs' shapes, not on their values."""
    readers: dict[str, int] = field(default_factory=dict)
    """Value -> bit set of the data nodes that read it."""
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    shape_of: dict[str, Shape] = field(default_factory=dict)
    _feeders: list[int] = field(default_factory=list)
    """Node -> bit set of the data nodes that make what it reads."""
    _followers: list[int] = field(default_factory=list)
    """Node -> bit set of the data nodes that read what it makes."""
    _cuts: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = list(self.model.graph.node)
        self.constant = {t.name for t in self.model.graph.initializer}
        for index, node in enumerate(self.nodes):
            self.data.append(self._sort(node))
            self.maker.update((v, index) for v in node.output if v)
        self.above, self.below, self._feeders = ([0] * len(self.nodes) for _ in range(3))
        for index in self.data_nodes():
            for value in self.reads(index):
                self.readers[value] = self.readers.get(value, 0) | 1 << index
                if value in self.maker:
                    self.above[index] |= self.above[self.maker[value]] | 1 << self.maker[value]
                    self._feeders[index] |= 1 << self.maker[value]
        for index in reversed(list(self.data_nodes())):
            for value in self.nodes[index].output:
                self.below[index] |= self.after(value)
        self._followers = [_union(self.readers.get(v, 0) for v in node.output) for node in self.nodes]
        self.shape_of = declared_shapes(self.model)

    def _sort(self, node: onnx.NodeProto) -> bool:
        """Whether the node is data; else its outputs are noted as constants or as made from shapes."""
        given = [v for v in node.input if v]
        if all(v in self.constant for v in given) and not _draws(node):
            self.constant.update(node.output)
        elif node.op_type in ("Shape", "Size") or all(
            v in self.constant or v in self.shapes_only for v in given
        ):
            self.shapes_only.update(node.output)
        else:
            return True
        return False

    def data_nodes(self) -> Iterator[int]:
        """Indices of the data nodes, in order."""
        return (i for i, is_data in enumerate(self.data) if is_data)

    def reads(self, index: int) -> list[str]:
        """The data values that a node reads."""
        return [
            v for v in self.nodes[index].input if v and v not in self.constant and v not in self.shapes_only
        ]

    def after(self, value: str) -> int:
        """Every data node that depends on ``value``."""
        found = self.readers.get(value, 0)
        for index in bits(found):
            found |= self.below[index]
        return found

    def between(self, entry: str, leaving: str) -> int | None:
        """The nodes from one value to another, if nothing else goes in and nothing else comes out."""
        if (entry, leaving) not in self._cuts:
            self._cuts[entry, leaving] = self._between(entry, leaving)
        return self._cuts[entry, leaving]

    def _between(self, entry: str, leaving: str) -> int | None:
        last = self.maker[leaving]
        inside = self.after(entry) & (self.above[last] | 1 << last)
        if not inside >> last & 1:
            return None
        near = inside | (1 << self.maker[entry] if entry in self.maker else 0)
        for index in bits(inside):  # by nodes first: nearly every pair of values ends here
            if self._feeders[index] & ~near or (index != last and self._followers[index] & ~inside):
                return None
        finals = {v.name for v in self.model.graph.output}
        for index in bits(inside):
            for value in self.reads(index):
                if value != entry and not (value in self.maker and inside >> self.maker[value] & 1):
                    return None
            for value in self.nodes[index].output:
                if value == leaving or not value:
                    continue
                if self.readers.get(value, 0) & ~inside or value in finals:
                    return None
        return inside

    def count(self, nodes: int, kinds: Iterable[str]) -> int:
        """How many of the nodes are of one of these kinds."""
        wanted = frozenset(kinds)
        return sum(self.nodes[i].op_type in wanted for i in bits(nodes))


def bits(nodes: int) -> Iterator[int]:
    """The members of a bit set, ascending."""
    while nodes:
        low = nodes & -nodes
        yield low.bit_length() - 1
        nodes ^= low


def _union(sets: Iterable[int]) -> int:
    found = 0
    for one in sets:
        found |= one
    return found


def declared_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Value -> shape as declared in the model; a free axis is its symbol, or None where it has none."""
    found: dict[str, Shape] = {}
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            found[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") else (d.dim_param or None)
                for d in value.type.tensor_type.shape.dim
            )
    return found


def _draws(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith("Random") or node.op_type in ("Multinomial", "Bernoulli")
