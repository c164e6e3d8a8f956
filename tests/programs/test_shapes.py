"""A shape read outside a region is read at its own input, where inference says that they agree."""

from __future__ import annotations

from onnx import helper

from scconv_deploy.programs.shapes import reroot

SHAPES = {"image": ("N", 3, "H", 32), "x": ("N", 16, 8, 8)}


def test_symbols_and_numbers_are_found_at_the_entry() -> None:
    node = helper.make_node("Shape", ["image"], ["s"], name="s", start=0, end=2)
    made = reroot(node, SHAPES, "x")
    assert made is not None
    assert [n.op_type for n in made] == ["Shape", "Constant", "Gather", "Constant", "Concat"]
    assert list(made[0].input) == ["x"]
    assert list(made[-1].output) == ["s"]


def test_a_size_that_the_entry_does_not_show_is_refused() -> None:
    assert reroot(helper.make_node("Shape", ["image"], ["s"]), SHAPES, "x") is None
    assert reroot(helper.make_node("Shape", ["unknown"], ["s"]), SHAPES, "x") is None
    assert reroot(helper.make_node("Size", ["image"], ["s"]), SHAPES, "x") is None
