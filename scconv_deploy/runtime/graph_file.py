"""Bytes of an ONNX model <-> its graph's nodes, for rewiring where the onnx package is not installed.

Field numbers are those of the published ``onnx.proto``. Nodes are parsed; all else (initializers above all)
stays the bytes it was, and is only looked into for names, types and dimensions, and for values that are asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from scconv_deploy.runtime.graph_node import Node, bytes_of, node_of
from scconv_deploy.runtime.protobuf import (
    BYTES,
    Field,
    encoded,
    fields_of,
    integer_field,
    message_field,
    text_field,
)
from scconv_deploy.runtime.tensor_bytes import FLOAT, described, floats_of, tensor_of

MODEL_IR_VERSION, MODEL_GRAPH, MODEL_IMPORT = 1, 7, 8
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO = 1, 5, 11, 12, 13
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, ELEMENT_TYPE = 1, 1
IMPORT_DOMAIN, IMPORT_VERSION = 1, 2


class GraphFile:
    """A model, with the nodes of its graph to be changed in place.

    Attributes:
        nodes: in the file's order; new ones may be appended anywhere, :meth:`to_bytes` sorts them.
        outputs: names of the graph's outputs.
        dims: of every initializer, by name; changed by :meth:`add_constant` and :meth:`drop_constant` alone.
        types: of every value that the file declares: its TypeProto as bytes, by name; may be added to.

    Args:
        data: the serialised model.

    Raises:
        ValueError: it is no ONNX model.
    """

    def __init__(self, data: bytes) -> None:
        self._model = list(fields_of(data))
        graphs = [f for f in self._model if f.number == MODEL_GRAPH]
        if len(graphs) != 1:
            raise ValueError("this is no ONNX model: it has no graph")
        graph = list(fields_of(graphs[0].data))
        self.nodes = [node_of(f.data) for f in graph if f.number == GRAPH_NODE]
        self._others = [f for f in graph if f.number not in (GRAPH_NODE, GRAPH_INITIALIZER)]
        self.outputs = {_value(f)[0] for f in self._others if f.number == GRAPH_OUTPUT}
        self._inputs = {_value(f)[0] for f in self._others if f.number == GRAPH_INPUT}
        tensors = [(described(f.data), f) for f in graph if f.number == GRAPH_INITIALIZER]
        self._tensors = {name: f for (name, _), f in tensors}
        self.dims = {name: dims for (name, dims), _ in tensors}
        with_types = (GRAPH_VALUE_INFO, GRAPH_INPUT, GRAPH_OUTPUT)
        self.types = dict(_value(f) for f in self._others if f.number in with_types)

    def constant(self, name: str) -> np.ndarray | None:
        """The values of a float32 initializer; None where there is none, it is of another type or in another file,
        or the graph's caller may replace it."""
        if name in self._inputs or name not in self._tensors:
            return None
        return floats_of(self._tensors[name].data)

    def add_constant(self, name: str, values: np.ndarray) -> None:
        """Put a float32 initializer into the graph, under a name that nothing there has."""
        self._tensors[name] = Field(GRAPH_INITIALIZER, BYTES, tensor_of(name, values))
        self.dims[name] = values.shape

    def drop_constant(self, name: str) -> None:
        """Take an initializer out that nobody reads any more."""
        del self._tensors[name], self.dims[name]

    def to_bytes(self) -> bytes:
        """The model with its present nodes, each after those that make its inputs.

        Raises:
            ValueError: the nodes form a cycle.
        """
        made = {name for node in self.nodes for name in node.outputs}
        others = [f for f in self._others if f.number != GRAPH_VALUE_INFO]
        ends = {_value(f)[0] for f in others if f.number in (GRAPH_INPUT, GRAPH_OUTPUT)}
        others += [_declared(n, kind) for n, kind in self.types.items() if n in made - ends and kind]
        nodes = [Field(GRAPH_NODE, BYTES, bytes_of(node)) for node in _in_order(self.nodes)]
        graph = message_field(MODEL_GRAPH, [*nodes, *self._tensors.values(), *others])
        return encoded(graph if f.number == MODEL_GRAPH else f for f in self._model)


def one_node_model(node: Node, domain: str) -> bytes:
    """A model of one node whose inputs and outputs, float32 of any shape, are the model's own."""
    kind = encoded([message_field(TYPE_TENSOR, [integer_field(ELEMENT_TYPE, FLOAT)])])
    ends = {GRAPH_INPUT: node.inputs, GRAPH_OUTPUT: node.outputs}
    graph = [
        Field(GRAPH_NODE, BYTES, bytes_of(node)),
        text_field(2, node.op_type),
        *(
            message_field(number, [text_field(VALUE_NAME, name), Field(VALUE_TYPE, BYTES, kind)])
            for number, names in ends.items()
            for name in names
        ),
    ]
    imports = [
        message_field(MODEL_IMPORT, [text_field(IMPORT_DOMAIN, d), integer_field(IMPORT_VERSION, version)])
        for d, version in (("", 18), (domain, 1))
    ]
    return encoded([integer_field(MODEL_IR_VERSION, 8), message_field(MODEL_GRAPH, graph), *imports])


def _value(made: Field) -> tuple[str, bytes]:
    parts = {f.number: f for f in fields_of(made.data)}
    kind = parts.get(VALUE_TYPE)
    return parts[VALUE_NAME].text, b"" if kind is None else bytes(kind.data)


def _declared(name: str, kind: bytes) -> Field:
    return message_field(GRAPH_VALUE_INFO, [text_field(VALUE_NAME, name), Field(VALUE_TYPE, BYTES, kind)])


def _in_order(nodes: Sequence[Node]) -> list[Node]:
    """Sorted, and otherwise as near to the given order as that allows."""
    maker = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    needs = [{maker[name] for name in node.inputs if name in maker} for node in nodes]
    after: list[list[int]] = [[] for _ in nodes]
    for i, needed in enumerate(needs):
        for j in needed:
            after[j].append(i)
    waiting = [len(needed) for needed in needs]
    ready = [i for i, count in enumerate(waiting) if count == 0]
    found = []
    while ready:
        i = heapq.heappop(ready)
        found.append(nodes[i])
        for j in after[i]:
            waiting[j] -= 1
            if waiting[j] == 0:
                heapq.heappush(ready, j)
    if len(found) != len(nodes):
        raise ValueError("the nodes form a cycle")
    return found
