"""Bytes of a protobuf message <-> its fields, without a schema and without the protobuf package.

Only the wire format (https://protobuf.dev/programming-guides/encoding): a message is a row of (field number, wire
type, value). Fields are kept in their order and unknown ones as they are, so what is not touched goes through
unchanged; a nested message is bytes until somebody asks for its fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10


class Field(NamedTuple):
    """One field; ``value`` is a number for VARINT and bytes for every other wire type."""

    number: int
    wire: int
    value: int | bytes | memoryview

    @property
    def data(self) -> bytes | memoryview:
        """The bytes of a field that is not a varint. Raises ValueError where it is one."""
        if isinstance(self.value, int):
            raise ValueError(f"field {self.number} is a number where bytes were expected")  # noqa: TRY004 - a damaged file, no wrong call
        return self.value

    @property
    def text(self) -> str:
        """The value as UTF-8. Raises ValueError where it is not."""
        return bytes(self.data).decode()

    @property
    def integer(self) -> int:
        """The value as int64. Raises ValueError where it is no varint."""
        if not isinstance(self.value, int):
            raise ValueError(f"field {self.number} is bytes where a number was expected")  # noqa: TRY004 - as above
        return self.value - (1 << 64) if self.value >> 63 else self.value


def text_field(number: int, value: str) -> Field:
    """A string."""
    return Field(number, BYTES, value.encode())


def integer_field(number: int, value: int) -> Field:
    """An int64, or any smaller integer or enumeration."""
    return Field(number, VARINT, value & (1 << 64) - 1)


def message_field(number: int, fields: Iterable[Field]) -> Field:
    """A nested message."""
    return Field(number, BYTES, encoded(fields))


def fields_of(message: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message; bytes are views into it, so that a large tensor is not copied.

    Raises:
        ValueError: it is cut short, or no protobuf at all.
    """
    data, at = memoryview(message), 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        if wire == VARINT:
            value, at = _varint(data, at)
            yield Field(number, wire, value)
            continue
        if wire == BYTES:
            length, at = _varint(data, at)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"field {number} has the wire type {wire}, which no writer uses any more")
        if at + length > len(data):
            raise ValueError(f"field {number} is cut short")
        yield Field(number, wire, data[at : at + length])
        at += length


def encoded(fields: Iterable[Field]) -> bytes:
    """The bytes of a message with these fields."""
    parts: list[bytes | memoryview] = []
    for number, wire, value in fields:
        parts.append(_as_varint(number << 3 | wire))
        if isinstance(value, int):
            parts.append(_as_varint(value))
            continue
        if wire == BYTES:
            parts.append(_as_varint(len(value)))
        parts.append(value)
    return b"".join(parts)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for count in range(_LONGEST_VARINT):
        if at + count >= len(data):
            raise ValueError("a number is cut short")
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            # Writers of negative numbers fill ten bytes; what is above 64 bits is not part of the number.
            return value & (1 << 64) - 1, at + count + 1
    raise ValueError("a number is longer than ten bytes")


def _as_varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
