"""The wire format: what the protobuf package writes is read, and what is written it reads back the same."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scconv_deploy.runtime.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    encoded,
    fields_of,
    integer_field,
    message_field,
    text_field,
)

NUMBERS = st.integers(1, 2**29 - 1)
FIELDS = st.one_of(
    st.builds(lambda n, v: Field(n, VARINT, v), NUMBERS, st.integers(0, 2**64 - 1)),
    st.builds(lambda n, v: Field(n, BYTES, v), NUMBERS, st.binary(max_size=300)),
    st.builds(lambda n, v: Field(n, FIXED32, v), NUMBERS, st.binary(min_size=4, max_size=4)),
    st.builds(lambda n, v: Field(n, FIXED64, v), NUMBERS, st.binary(min_size=8, max_size=8)),
)


@given(st.lists(FIELDS, max_size=12))
def test_any_message_goes_there_and_back(message: list[Field]) -> None:
    data = encoded(message)
    assert [Field(f.number, f.wire, _plain(f)) for f in fields_of(data)] == message
    assert encoded(fields_of(data)) == data


def _plain(field: Field) -> int | bytes:
    return field.value if isinstance(field.value, int) else bytes(field.value)


@given(
    st.text(max_size=40),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4),
)
def test_what_the_protobuf_package_writes(name: str, ints: list[int], floats: list[float]) -> None:
    attribute = onnx.AttributeProto(name=name, ints=ints, floats=floats, type=onnx.AttributeProto.INTS)
    data = attribute.SerializeToString()
    read = list(fields_of(data))
    assert encoded(read) == data
    assert [f.text for f in read if f.number == 1] == [name]
    assert [f.integer for f in read if f.number == 8] == ints


@given(st.integers(-(2**63), 2**63 - 1), st.text(max_size=30))
def test_the_protobuf_package_reads_what_is_written(value: int, text: str) -> None:
    data = encoded([text_field(1, text), integer_field(3, value), integer_field(20, 2)])
    attribute = onnx.AttributeProto.FromString(data)
    assert (attribute.name, attribute.i) == (text, value)
    node = onnx.NodeProto.FromString(encoded([message_field(5, fields_of(data))]))
    assert node.attribute[0] == attribute


@given(st.lists(FIELDS, min_size=1, max_size=4), st.data())
def test_a_message_cut_short_is_refused_or_ends_at_a_field(message: list[Field], data: st.DataObject) -> None:
    whole = encoded(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    try:
        read = list(fields_of(whole[:cut]))
    except ValueError:
        return
    assert encoded(read) == whole[:cut]
    assert len(read) < len(message)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x00\x01", "number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x05ab", "cut short"),
        (b"\x08", "cut short"),
        (b"\x08" + b"\xff" * 11, "longer than ten"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(fields_of(data))


def test_a_value_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="is a number"):
        _ = Field(1, VARINT, 3).text
    with pytest.raises(ValueError, match="is bytes"):
        _ = Field(1, BYTES, b"3").integer
