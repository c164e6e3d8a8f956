"""An ONNX model and one input -> every inner value that ONNX Runtime computes, a stretch of nodes at a time.

Each stretch is a model of its own that is fed with what the stretches in front of it made, so every node runs once
and no more is held than one stretch and what is still to be read. Graph optimisation is off: the values are
those of the nodes as they stand in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from scconv_deploy.runtime.onnx import OnnxRunner

STRETCH_ELEMENTS = 16_000_000
"""Values made by one stretch (64 MB of float32), where shape inference tells their sizes."""
STRETCH_NODES = 100
"""Nodes of one stretch, for models whose sizes are not known."""
UNKNOWN_AXIS = 64
"""Assumed for a free axis."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive nodes, the values they read from outside, and those they make."""

    nodes: tuple[onnx.NodeProto, ...]
    reads: frozenset[str]
    makes: frozenset[str]


def stretches(model: onnx.ModelProto) -> tuple[Stretch, ...]:
    """Cut the graph's nodes, in their order. ``Constant`` nodes are part of every stretch that reads them.

    Args:
        model: with shapes of inner values where they are known.
    """
    constants = {n.output[0]: n for n in model.graph.node if n.op_type == "Constant"}
    stored = {t.name for t in model.graph.initializer}
    found = []
    for nodes in _lots(model):
        makes = {v for node in nodes for v in node.output if v}
        read = {v for node in nodes for v in read_by(node)} - makes
        own = [constants[v] for v in sorted(read & set(constants))]
        outside = read - stored - set(constants)
        found.append(Stretch((*own, *nodes), frozenset(outside), frozenset(makes)))
    return tuple(found)


def run(
    model: onnx.ModelProto, stretch: Stretch, wanted: Iterable[str], values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Those of the stretch's values that are wanted.

    Args:
        model: whose stretch it is.
        stretch: what to run.
        wanted: names among ``stretch.makes``.
        values: by name, with everything that the stretch reads.

    Raises:
        InputError: ONNX Runtime cannot run these nodes on these values.
    """
    names = sorted(set(wanted) & stretch.makes)
    if not names:
        return {}
    given = {name: values[name] for name in sorted(stretch.reads)}
    return run_nodes(model, stretch.nodes, given, names)


def run_nodes(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    given: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Some nodes of a model, on these values, by ONNX Runtime as they stand -> the named values.

    Raises:
        InputError: ONNX Runtime cannot run them.
    """
    read = {v for node in nodes for v in read_by(node)} - set(given)
    graph = helper.make_graph(
        nodes,
        "stretch",
        [_declared(name, array) for name, array in given.items()],
        [helper.make_empty_tensor_value_info(name) for name in names],
        [t for t in model.graph.initializer if t.name in read],
    )
    made = helper.make_model(graph, opset_imports=model.opset_import)
    made.ir_version = model.ir_version
    with OnnxRunner(made.SerializeToString(), threads=1, optimise=False) as runner:
        return runner.run(given)


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, those inside its own graphs included."""
    yield from (v for v in node.input if v)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            inside = {t.name for t in graph.initializer} | {v.name for v in graph.input}
            inside |= {v for inner in graph.node for v in inner.output}
            yield from (v for inner in graph.node for v in read_by(inner) if v not in inside)
            yield from (v.name for v in graph.output if v.name not in inside)


def _lots(model: onnx.ModelProto) -> Iterator[list[onnx.NodeProto]]:
    sizes = _sizes(model)
    lot: list[onnx.NodeProto] = []
    held = 0
    for node in model.graph.node:
        if node.op_type == "Constant":
            continue
        lot.append(node)
        held += sum(sizes.get(v, 0) for v in node.output)
        if held > STRETCH_ELEMENTS or len(lot) >= STRETCH_NODES:
            yield lot
            lot, held = [], 0
    if lot:
        yield lot


def _sizes(model: onnx.ModelProto) -> dict[str, int]:
    found = {}
    for value in [*model.graph.value_info, *model.graph.output]:
        dims = value.type.tensor_type.shape.dim
        sizes = [d.dim_value if d.HasField("dim_value") else UNKNOWN_AXIS for d in dims]
        found[value.name] = int(np.prod([max(1, d) for d in sizes], dtype=np.float64))
    return found


def _declared(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    """Type and rank only: a size that does not fit is to be refused when the nodes run."""
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, [f"{name}_{axis}" for axis in range(array.ndim)])
