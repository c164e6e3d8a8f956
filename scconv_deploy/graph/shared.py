"""A graph whose blocks share nodes -> the same function with every block in possession of all its own nodes.

Blocks that read one tensor side by side (the branches of an ASPP) normalise it alike, and simplification
computes that once, under the name of the first block. That is what should be built; to judge each block by
itself it is given back: where a block reads a value that another block makes *and itself reads*, the maker is
copied into the reading block, and so on up to the other block's border. A block's proper output is read only by
others, so chains of blocks are left alone. Copies compute the same values of the same inputs: exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.pieces import reads


def unshared(model: onnx.ModelProto, paths: Sequence[str]) -> onnx.ModelProto:
    """A copy in which the blocks at ``paths`` share no inner value; the model itself where none do.

    Nodes are named ``<module path>/<operator>_<index>`` (:func:`~scconv_deploy.graph.names.rename_nodes`).
    """
    sharing = _Sharing(model, paths)
    nodes = [made for node in model.graph.node for made in sharing.separated(node)]
    if len(nodes) == len(model.graph.node):
        return model
    separate = onnx.ModelProto()
    separate.CopyFrom(model)
    del separate.graph.node[:]
    separate.graph.node.extend(nodes)
    return separate


class _Sharing:
    """Who makes which value, which values are inner ones of a block, and what has been copied so far."""

    def __init__(self, model: onnx.ModelProto, paths: Sequence[str]) -> None:
        self.paths = paths
        self.maker = {v: node for node in model.graph.node for v in node.output}
        read_by = {(self._owner(node), v) for node in model.graph.node for v in reads(node)}
        owners = {v: self._owner(node) for v, node in self.maker.items()}
        self.inner = {v: path for v, path in owners.items() if path is not None and (path, v) in read_by}
        self.copied: set[tuple[str, str]] = set()

    def separated(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The node, behind copies of what it reads inside other blocks."""
        path = self._owner(node)
        if path is None or not any(self.inner.get(v, path) != path for v in node.input):
            return [node]
        return self._within(node, path)

    def _within(self, node: onnx.NodeProto, path: str) -> list[onnx.NodeProto]:
        foreign = [v for v in node.input if self.inner.get(v, path) != path]
        upstream = [made for v in dict.fromkeys(foreign) for made in self._copy(v, path)]
        mine = onnx.NodeProto()
        mine.CopyFrom(node)
        for index, value in enumerate(node.input):
            mine.input[index] = f"{value} of {path}" if value in foreign else value
        return [*upstream, mine]

    def _copy(self, value: str, path: str) -> list[onnx.NodeProto]:
        maker, owner = self.maker[value], self.inner[value]
        if (maker.name, path) in self.copied:
            return []
        self.copied.add((maker.name, path))
        *upstream, copy = self._within(maker, path)
        # What stands behind the owner's path (".sru/Reshape_3") says in which unit it is.
        copy.name = path + maker.name[len(owner) :]
        for index, result in enumerate(maker.output):
            copy.output[index] = f"{result} of {path}" if result else ""
        return [*upstream, copy]

    def _owner(self, node: onnx.NodeProto) -> str | None:
        return next((p for p in self.paths if belongs_to(node.name, p)), None)
