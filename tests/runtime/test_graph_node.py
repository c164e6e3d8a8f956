"""Nodes and their attributes, judged by the onnx package."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scconv_deploy.runtime.graph_node import Node, bytes_of, integers_of, node_of
from scconv_deploy.runtime.protobuf import BYTES, VARINT, Field

NAMES = st.text("abcxyz/_:é", min_size=1, max_size=8)
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.text(max_size=9), st.lists(st.integers(-5, 2**40), min_size=1)
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_attributes_are_read(attributes: dict[str, int | str | list[int]]) -> None:
    made = onnx.NodeProto(op_type="Kind")
    made.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
    node = node_of(made.SerializeToString())
    for name, value in attributes.items():
        assert node.integer(name, -99) == (value if isinstance(value, int) else -99)
        assert node.text(name) == (value if isinstance(value, str) else "")
        assert node.integers(name) == (tuple(value) if isinstance(value, list) else ())
    assert onnx.NodeProto.FromString(bytes_of(node)) == made


def test_an_attribute_that_is_not_there() -> None:
    node = Node("Kind", [], [])
    assert (node.integer("a", 3), node.integers("a"), node.text("a")) == (3, (), "")
    assert node.attribute("a") is None


@given(st.lists(st.tuples(NAMES, st.one_of(st.integers(-5, 2**40), st.text(max_size=9))), max_size=6))
def test_the_last_value_set_counts(changes: list[tuple[str, int | str]]) -> None:
    node = Node("Kind", ["x"], ["y"], "scconv", "name")
    for name, value in changes:
        if isinstance(value, int):
            node.set_integer(name, value)
        else:
            node.set_text(name, value)
    written = onnx.NodeProto.FromString(bytes_of(node))
    stored = {a.name: onnx.helper.get_attribute_value(a) for a in written.attribute}
    assert stored == {n: v if isinstance(v, int) else v.encode() for n, v in dict(changes).items()}
    assert len(written.attribute) == len(stored)


def test_an_attribute_goes_to_another_node_as_it_is() -> None:
    made = onnx.helper.make_node("Kind", ["x"], ["y"], epsilon=1e-5, groups=4)
    found = node_of(made.SerializeToString()).attribute("epsilon")
    assert found is not None
    other = Node("Other", [], [], rest=[found])
    assert list(onnx.NodeProto.FromString(bytes_of(other)).attribute) == [made.attribute[0]]


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        (Field(8, VARINT, 300), [300]),
        (Field(8, BYTES, b"\x03\xac\x02" + b"\xff" * 9 + b"\x01"), [3, 300, -1]),
        (Field(8, BYTES, b""), []),
    ],
)
def test_integers_in_either_encoding(part: Field, numbers: list[int]) -> None:
    assert integers_of(part) == numbers
