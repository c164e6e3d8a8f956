"""Bytes of an ONNX model <-> its graph's nodes, for rewiring where the onnx package is not installed.

Field numbers are those of the published ``onnx.proto``. Nodes are parsed; all else (initializers above all)
stays the bytes it was, and is only looked into for names, types and dimensions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scconv_deploy.runtime.protobuf import (
    BYTES,
    VARINT,
    Field,
    encoded,
    fields_of,
    integer_field,
    message_field,
    text_field,
)

MODEL_IR_VERSION, MODEL_GRAPH, MODEL_IMPORT = 1, 7, 8
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO = 1, 5, 11, 12, 13
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_TYPE, TYPE_INT = 1, 3, 20, 2
TENSOR_DIMS, TENSOR_NAME = 1, 8
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, ELEMENT_TYPE, FLOAT = 1, 1, 1
IMPORT_DOMAIN, IMPORT_VERSION = 1, 2


@dataclass(eq=False)
class Node:
    """One node. ``rest`` holds its attributes and whatever else it has, as they are."""

    op_type: str
    inputs: list[str]
    outputs: list[str]
    domain: str = ""
    name: str = ""
    rest: list[Field] = field(default_factory=list)

    def integer(self, attribute: str, otherwise: int) -> int:
        """The value of an integer attribute, or ``otherwise`` where the node has none of that name."""
        for made in self.rest:
            if made.number == NODE_ATTRIBUTE:
                parts = {f.number: f for f in fields_of(made.data)}
                if parts[ATTRIBUTE_NAME].text == attribute and ATTRIBUTE_INT in parts:
                    return parts[ATTRIBUTE_INT].integer
        return otherwise

    def set_integer(self, attribute: str, value: int) -> None:
        """Give the node an integer attribute that it does not have yet."""
        parts = (
            text_field(ATTRIBUTE_NAME, attribute),
            integer_field(ATTRIBUTE_INT, value),
            integer_field(ATTRIBUTE_TYPE, TYPE_INT),
        )
        self.rest.append(message_field(NODE_ATTRIBUTE, parts))


class GraphFile:
    """A model, with the nodes of its graph to be changed in place.

    Attributes:
        nodes: in the file's order; new ones may be appended anywhere, :meth:`to_bytes` sorts them.
        outputs: names of the graph's outputs.
        dims: of every initializer, by name.
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
        self.nodes = [_node(f.data) for f in graph if f.number == GRAPH_NODE]
        self._others = [f for f in graph if f.number != GRAPH_NODE]
        self.outputs = {_value(f)[0] for f in self._others if f.number == GRAPH_OUTPUT}
        self.dims = dict(_tensor(f) for f in self._others if f.number == GRAPH_INITIALIZER)
        described = (GRAPH_VALUE_INFO, GRAPH_INPUT, GRAPH_OUTPUT)
        self.types = dict(_value(f) for f in self._others if f.number in described)

    def to_bytes(self) -> bytes:
        """The model with its present nodes, each after those that make its inputs.

        Raises:
            ValueError: the nodes form a cycle.
        """
        made = {name for node in self.nodes for name in node.outputs}
        others = [f for f in self._others if f.number != GRAPH_VALUE_INFO]
        ends = {_value(f)[0] for f in others if f.number in (GRAPH_INPUT, GRAPH_OUTPUT)}
        others += [_described(n, kind) for n, kind in self.types.items() if n in made - ends and kind]
        nodes = [Field(GRAPH_NODE, BYTES, _encoded(node)) for node in _in_order(self.nodes)]
        graph = message_field(MODEL_GRAPH, [*nodes, *others])
        return encoded(graph if f.number == MODEL_GRAPH else f for f in self._model)


def one_node_model(node: Node, domain: str) -> bytes:
    """A model of one node whose inputs and outputs, float32 of any shape, are the model's own."""
    kind = encoded([message_field(TYPE_TENSOR, [integer_field(ELEMENT_TYPE, FLOAT)])])
    ends = {GRAPH_INPUT: node.inputs, GRAPH_OUTPUT: node.outputs}
    graph = [
        Field(GRAPH_NODE, BYTES, _encoded(node)),
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


def _node(data: bytes | memoryview) -> Node:
    node = Node("", [], [])
    for part in fields_of(data):
        match part.number:
            case n if n == NODE_INPUT:
                node.inputs.append(part.text)
            case n if n == NODE_OUTPUT:
                node.outputs.append(part.text)
            case n if n == NODE_NAME:
                node.name = part.text
            case n if n == NODE_OP_TYPE:
                node.op_type = part.text
            case n if n == NODE_DOMAIN:
                node.domain = part.text
            case _:
                node.rest.append(part)
    return node


def _encoded(node: Node) -> bytes:
    return encoded(
        [
            *(text_field(NODE_INPUT, name) for name in node.inputs),
            *(text_field(NODE_OUTPUT, name) for name in node.outputs),
            *([text_field(NODE_NAME, node.name)] if node.name else []),
            text_field(NODE_OP_TYPE, node.op_type),
            *node.rest,
            *([text_field(NODE_DOMAIN, node.domain)] if node.domain else []),
        ]
    )


def _value(made: Field) -> tuple[str, bytes]:
    parts = {f.number: f for f in fields_of(made.data)}
    kind = parts.get(VALUE_TYPE)
    return parts[VALUE_NAME].text, b"" if kind is None else bytes(kind.data)


def _described(name: str, kind: bytes) -> Field:
    return message_field(GRAPH_VALUE_INFO, [text_field(VALUE_NAME, name), Field(VALUE_TYPE, BYTES, kind)])


def _tensor(made: Field) -> tuple[str, tuple[int, ...]]:
    name, dims = "", []
    for part in fields_of(made.data):
        if part.number == TENSOR_NAME:
            name = part.text
        elif part.number == TENSOR_DIMS:
            dims += [part.integer] if part.wire == VARINT else list(_packed(part))
    return name, tuple(dims)


def _packed(part: Field) -> Iterator[int]:
    # A row of varints without keys: give each the key of field 1 and read them as a message.
    data, start = bytes(part.data), 0
    for end, byte in enumerate(data, 1):
        if byte < 0x80:
            yield next(fields_of(b"\x08" + data[start:end])).integer
            start = end


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
