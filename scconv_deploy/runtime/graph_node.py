"""A NodeProto's bytes <-> its operator, inputs, outputs and attributes, without the onnx package.

Attributes are looked for when they are asked for; what is not touched stays the bytes it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from scconv_deploy.runtime.protobuf import (
    VARINT,
    Field,
    encoded,
    fields_of,
    integer_field,
    message_field,
    text_field,
)

NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_TEXT, ATTRIBUTE_INTS, ATTRIBUTE_TYPE = 1, 3, 4, 8, 20
TYPE_INT, TYPE_TEXT = 2, 3


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
        found = [f for f in self._parts(attribute) if f.number == ATTRIBUTE_INT]
        return found[-1].integer if found else otherwise

    def integers(self, attribute: str) -> tuple[int, ...]:
        """The values of an attribute that is a row of integers; none where the node has none of that name."""
        found: list[int] = []
        for part in self._parts(attribute):
            if part.number == ATTRIBUTE_INTS:
                found += integers_of(part)
        return tuple(found)

    def text(self, attribute: str) -> str:
        """The value of a text attribute; empty where the node has none of that name."""
        found = [f for f in self._parts(attribute) if f.number == ATTRIBUTE_TEXT]
        return found[-1].text if found else ""

    def attribute(self, name: str) -> Field | None:
        """An attribute as it is, to be given to another node."""
        found = (made for made in self.rest if made.number == NODE_ATTRIBUTE and _name(made) == name)
        return next(found, None)

    def set_integer(self, attribute: str, value: int) -> None:
        """Give the node an integer attribute, in place of the one of that name if there is one."""
        self._set(attribute, integer_field(ATTRIBUTE_INT, value), TYPE_INT)

    def set_text(self, attribute: str, value: str) -> None:
        """Give the node a text attribute, in place of the one of that name if there is one."""
        self._set(attribute, text_field(ATTRIBUTE_TEXT, value), TYPE_TEXT)

    def _set(self, attribute: str, value: Field, kind: int) -> None:
        parts = (text_field(ATTRIBUTE_NAME, attribute), value, integer_field(ATTRIBUTE_TYPE, kind))
        made = message_field(NODE_ATTRIBUTE, parts)
        old = self.attribute(attribute)
        if old is None:
            self.rest.append(made)
        else:
            self.rest[self.rest.index(old)] = made

    def _parts(self, attribute: str) -> Iterator[Field]:
        found = self.attribute(attribute)
        return iter(()) if found is None else fields_of(found.data)


def node_of(data: bytes | memoryview) -> Node:
    """A node from the bytes of its message."""
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


def bytes_of(node: Node) -> bytes:
    """The bytes of a node's message."""
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


def integers_of(part: Field) -> list[int]:
    """A field of a repeated integer: one number, or a packed row of them."""
    if part.wire == VARINT:
        return [part.integer]
    # A row of varints without keys: give each the key of field 1 and read them as a message.
    data, start, found = bytes(part.data), 0, []
    for end, byte in enumerate(data, 1):
        if byte < 0x80:
            found.append(next(fields_of(b"\x08" + data[start:end])).integer)
            start = end
    return found


def _name(attribute: Field) -> str:
    return next((f.text for f in fields_of(attribute.data) if f.number == ATTRIBUTE_NAME), "")
