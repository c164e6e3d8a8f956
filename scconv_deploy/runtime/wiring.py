"""A graph's nodes -> who makes and who reads each value, kept true while nodes are rewired."""

from __future__ import annotations

from scconv_deploy.runtime.graph_file import GraphFile
from scconv_deploy.runtime.graph_node import Node


class Wiring:
    """Changes a graph's nodes in place.

    Attributes:
        outputs: names of the graph's outputs.
    """

    def __init__(self, graph: GraphFile) -> None:
        self._graph = graph
        self.outputs = graph.outputs
        self._makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            self._reads(node)
        self._names = {*self._makers, *self._readers, *graph.dims, *graph.types}

    def maker(self, name: str) -> Node | None:
        """The node that makes a value; None for the graph's inputs and initializers."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[Node]:
        """Nodes that read a value, each once."""
        return self._readers.get(name, [])

    def only_reader(self, name: str) -> Node | None:
        """The node that is all that becomes of a value, reading it once; None where there is no such node."""
        readers = self.readers(name)
        if name in self.outputs or len(readers) != 1 or readers[0].inputs.count(name) != 1:
            return None
        return readers[0]

    def fresh(self, name: str) -> str:
        """A name that no value has, made from ``name``."""
        made, count = f"{name}/blocked", 1
        while made in self._names:
            made, count = f"{name}/blocked{count}", count + 1
        self._names.add(made)
        return made

    def add(self, node: Node, at: int | None = None) -> None:
        """Put a node into the graph, at its end or before the node that is now the ``at``-th."""
        self._graph.nodes.insert(len(self._graph.nodes) if at is None else at, node)
        self._reads(node)
        self._makers |= dict.fromkeys(node.outputs, node)

    def drop(self, node: Node) -> None:
        """Take a node out of the graph."""
        self._graph.nodes.remove(node)
        for name in set(node.inputs):
            self._readers[name].remove(node)
        for name in node.outputs:
            if self._makers.get(name) is node:
                del self._makers[name]

    def drop_unread(self, node: Node) -> None:
        """Take a node out of which nobody reads anything."""
        if not any(self.readers(name) or name in self.outputs for name in node.outputs):
            self.drop(node)

    def read_also(self, node: Node, name: str) -> None:
        """Give a node one more input."""
        node.inputs.append(name)
        if node not in self._readers.setdefault(name, []):
            self._readers[name].append(node)

    def read_instead(self, node: Node, old: str, new: str) -> None:
        """Let a node read ``new`` wherever it read ``old``."""
        node.inputs[:] = [new if name == old else name for name in node.inputs]
        self._readers[old].remove(node)
        if node not in self._readers.setdefault(new, []):
            self._readers[new].append(node)

    def make_instead(self, node: Node, old: str, new: str) -> None:
        """Let a node call a result ``new``; readers of ``old`` are left to the caller."""
        node.outputs[:] = [new if name == old else name for name in node.outputs]
        del self._makers[old]
        self._makers[new] = node

    def take_over(self, node: Node, reader: Node) -> None:
        """Let a node make what its only reader, with one output, made of its only output; that one is dropped."""
        (result,) = reader.outputs
        self.drop(reader)
        self.make_instead(node, node.outputs[0], result)

    def _reads(self, node: Node) -> None:
        for name in dict.fromkeys(node.inputs):
            self._readers.setdefault(name, []).append(node)
