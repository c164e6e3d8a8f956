from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from scconv_deploy.artifacts import Json
from scconv_deploy.report.html import error_bars, render
from scconv_deploy.report.manifest import as_section
from scconv_deploy.report.to_json import to_json
from scconv_deploy.verdicts import Verdict
from tests.report.example import comparison, manifest

HOSTILE = '<script>alert("x")</script>"><img src=x onerror=y>'
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects tags, and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def words(text: str) -> str:
    return " ".join(" ".join(Page(text).text).split()).replace(" :", ":").replace(" ,", ",")


def test_the_page_says_everything_in_the_manifest() -> None:
    said = words(render(manifest()))
    for part in (
        "PASS agrees with PyTorch in all 2 comparisons",
        "digits_net.DigitsNet",
        "1x1x32x32 to 64x1x32x32, best at 8x1x32x32",
        "stage2.0.scconv F3 4.4e-16 12 6",
        "stage3.odd: its gate depends on the batch",
        "41 kernels",
        "scconv-export samples/digits/model.pt",
        "cd" * 32,
        "2.13.0",
        "batch 8",
    ):
        assert part in said, part


def test_the_page_is_self_contained() -> None:
    page = Page(render(manifest(Verdict.FAIL)))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [v for name, v in page.attributes if name in ("src", "href")]
    assert "url(" not in render(manifest())


@pytest.mark.parametrize("place", ["path", "reason", "origin", "reproduce", "sentence", "file name"])
def test_hostile_strings_stay_text(place: str) -> None:
    data = dict(manifest(path=HOSTILE))
    changes: dict[str, dict[str, Json]] = {
        "path": {},
        "reason": {"recognition": {"left_as_is": [{"path": "a", "reason": HOSTILE}]}},
        "origin": {"source": {"origin": HOSTILE}},
        "reproduce": {"reproduce": HOSTILE},
        "sentence": {"verification": {"verdict": "PASS", "sentence": HOSTILE}},
        "file name": {"files": {HOSTILE: {"sha256": "0", "size_bytes": 1}}},
    }
    text = render({**data, **changes[place]})
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert HOSTILE in "".join(page.text)


@pytest.mark.parametrize("key", [*manifest(), None])
@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [None], {"a": None}])
def test_missing_and_odd_keys_are_tolerated(key: str | None, value: Json) -> None:
    text = render({} if key is None else {**manifest(), key: value})
    assert "</html>" in text


def test_an_unverified_bundle_says_so() -> None:
    assert "UNVERIFIED" in words(render(manifest(verdict=None)))
    assert "PASS" not in words(render(manifest(verdict=None)))


def test_a_failure_and_an_unexecuted_artifact_are_said() -> None:
    said = words(render({**manifest(Verdict.FAIL), "not_executed": "no NVIDIA GPU here"}))
    assert "FAIL logits differ from PyTorch by 0.37" in said
    assert "layer2.1.conv2" in said
    assert "Built, not executed no NVIDIA GPU here" in said


def test_bars_are_logarithmic_and_the_limit_is_where_it_belongs() -> None:
    rows = tuple(as_section(to_json(comparison(str(e), e))) for e in (1e-6, 1e-5, 1e-4, 1e-3))
    bars = error_bars(rows)
    widths = [b.error_percent for b in bars]
    steps = [b - a for a, b in pairwise(widths)]
    assert max(steps) - min(steps) < 0.1  # equal steps for equal factors
    assert bars[2].error_percent == bars[2].limit_percent  # an error of exactly the limit touches the line
    assert bars[3].error_percent > bars[3].limit_percent


def test_the_chart_of_many_comparisons_shows_the_worst() -> None:
    rows = [comparison(f"case {i}", 1e-9 * (i + 1)) for i in range(40)] + [comparison("broken", math.nan)]
    text = render({"verification": {"verdict": "PASS", "comparisons": to_json(rows)}})
    chart = text[text.index("<svg") : text.index("</svg>")]
    shown = re.findall(r"(case \d+|broken):", chart)
    assert shown == [*(f"case {i}" for i in range(29, 40)), "broken"]
    assert "the 12 of 41 comparisons" in words(text)
    assert all(f"case {i}" in text for i in range(40))


def test_a_bar_of_nan_is_the_longest_and_of_zero_the_shortest() -> None:
    rows = [as_section(to_json(comparison("a", e, Verdict.FAIL))) for e in (math.nan, math.inf, 0.0)]
    assert [b.error_percent for b in error_bars(tuple(rows))] == [100.0, 100.0, 0.0]
    assert all(b.failed for b in error_bars(tuple(rows)))


def test_colours_come_in_light_and_dark() -> None:
    names = re.findall(r"--([\w-]+):", render({}))
    assert all(names.count(name) == 2 for name in names)
