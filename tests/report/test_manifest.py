from __future__ import annotations

import math

import pytest

from scconv_deploy.report.manifest import as_section, join_names, plural, profile_text, size_text
from scconv_deploy.report.to_json import to_json
from tests.report.example import IMAGES


def test_what_is_not_there_reads_as_nothing() -> None:
    empty = as_section([1, 2])
    assert not empty
    assert empty.section("a").section("b").text("c") is None
    assert empty.items("a") == ()
    assert empty.number("a") is None


def test_what_is_there_is_read_by_type() -> None:
    view = as_section({"n": 3, "x": "nan", "t": "", "b": True, "l": ["a", 1, {"k": 2}], "s": {"a": 1}})
    assert view.number("n") == 3.0
    assert math.isnan(view.number("x") or 0.0)
    assert view.text("t") is None
    assert view.text("b") is None
    assert view.texts("l") == ("a",)
    assert [s.number("k") for s in view.sections("l")] == [2.0]
    assert list(view.section("s").pairs()) == [("a", "1")]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (77_500, "77.5 kB"), (999_960, "1.0 MB"), (5e12, "5000.0 GB")],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


def test_profiles() -> None:
    image = to_json(IMAGES)
    assert isinstance(image, dict)
    assert profile_text(as_section(image)) == "1x1x32x32 to 64x1x32x32, best at 8x1x32x32"
    free = as_section({**image, "maximum": [2**31 - 1, 1, 32, 32]})
    assert "to Nx1x32x32 (N has no upper bound)" in (profile_text(free) or "")
    assert profile_text(as_section({**image, "maximum": image["minimum"]})) is None


def test_words() -> None:
    assert (plural(1, "block"), plural(2, "block")) == ("1 block", "2 blocks")
    assert join_names("abcdef") == "a, b, c, d and 2 more"
    assert join_names("ab") == "a, b"
