from __future__ import annotations

import json
import math
import re

import pytest

from scconv_deploy.artifacts import Json
from scconv_deploy.report.html import render
from scconv_deploy.report.to_json import to_json
from scconv_deploy.verdicts import Verdict
from tests.report.example import comparison, manifest
from tests.report.half_example import half_manifest
from tests.report.page import Page, words

HOSTILE = '<script>alert("x")</script>"><img src=x onerror=y>'


def test_the_page_says_everything_in_the_manifest() -> None:
    said = words(render(manifest()))
    for part in (
        "✓ PASS agrees with PyTorch in all 2 comparisons",
        "digits_net.DigitsNet",
        "1x1x32x32 to 64x1x32x32, best at 8x1x32x32",
        "stage2.0.scconv F3 - 4.4e-16 12 6 0.83",
        "stage3.odd: its gate depends on the batch",
        "41 kernels",
        "scconv-export samples/digits/model.pt",
        "cd" * 32,
        "2.13.0",
        "batch 8",
    ):
        assert part in said, part


@pytest.mark.parametrize("data", [manifest(Verdict.FAIL), half_manifest(broken=9)])
def test_the_page_is_self_contained(data: dict[str, Json]) -> None:
    text = render(data)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [v for name, v in page.attributes if name == "src"]
    ids = {v for name, v in page.attributes if name == "id"}
    links = [v for name, v in page.attributes if name == "href"]
    assert links
    assert all(link and link.startswith("#") and link[1:] in ids for link in links)
    assert "url(" not in text
    assert "@import" not in text
    assert len(text) < 300_000


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
    assert "✗ FAIL logits differ from PyTorch by 0.37" in said
    assert "Starts at layer2.1.conv2" in said
    assert "Built, not executed no NVIDIA GPU here" in said


def test_half_precision_is_told_in_full() -> None:
    said = words(render(half_manifest(16, broken=9)))
    for part in (
        "Starts at layer3.1.conv2.SRU",
        "max-flip-rate ✗ missed 0.3331 0.001",
        "budget 0.1%",
        "error off the flips ✓ kept",
        "top-1 accuracy: 0.9844 with the artifact, 0.9822 with PyTorch, on 450 samples",
        "layer3.1.conv2 ✗ FAIL 0.61 0.021",
        "SRU ✗ FAIL 0.61 0.0093",
        "PyTorch in fp16 0.37 100%",
        "10 more blocks, with fewer flips",
        "convolutions gate fuse",
        "HALF 4, FLOAT 1",
        "GroupNorm of 4 groups (eps 1e-05), gate weight gamma / sum(gamma), hard gate > 0.5",
        "model.onnx 8 1 2.512",
        "exact form",
    ):
        assert part in said, part


def test_a_benchmark_report_is_read_as_well_as_plain_timings() -> None:
    measured: dict[str, Json] = {
        "name": "model.onnx",
        "batch": 8,
        "threads": 1,
        "median_ms": 7.125,
        "percentiles_ms": {"90": 7.75, "99": 8.5},
        "against_yardstick": {"value": 0.625, "low": 0.61, "high": 0.64},
    }
    said = words(render({"benchmark": {"measurements": [measured]}}))
    assert "model.onnx 8 1 7.125 - 7.75 8.5 - 0.625 0.61 to 0.64" in said


def test_the_plot_shows_the_metric_that_the_limit_applies_to() -> None:
    rows: Json = [to_json(comparison("a", 0.5))]
    data: dict[str, Json] = {
        "comparisons": rows,
        "tolerance": {"metric": "p99_abs", "atol": 0.0, "rtol": 0.0},
    }
    said = words(render({"verification": data}))
    assert "a: logits 8x10 ✓ PASS 0.25 0.0001" in said
    other = words(render({"verification": {**data, "tolerance": {"metric": "max_abs"}}}))
    assert "a: logits 8x10 ✓ PASS 0.5 0.0001" in other


def test_the_graphs_style_is_said_in_words() -> None:
    said = words(render({"style": {"gate_in_half": True, "literal_gate": False, "form": "standard"}}))
    assert "Graph style gate in half, form standard" in said
    assert "literal" not in said


def test_a_passing_half_precision_page_names_no_place_and_no_miss() -> None:
    said = words(render(half_manifest()))
    assert "Starts at" not in said
    assert "✗" not in said


def test_one_histogram_per_watched_block_and_every_bin_in_the_table() -> None:
    text = render(half_manifest(16))
    assert text.count('class="margins"') == 16
    assert "8 / 44,286" not in text  # a twin of the next line that must not be there
    verification = json.loads(json.dumps(half_manifest(16)["verification"]))
    for piece in verification["pieces"]:
        for item in (piece["gate"] or {"histogram": []})["histogram"]:
            assert f"<td>{item['flips']} / {item['gates']:,}</td>" in text


def test_a_bundle_from_before_gates_were_watched_is_shown_without_them() -> None:
    data = json.loads(json.dumps(half_manifest(2)))
    for key in ("precision", "budgets", "task", "pytorch_same_precision"):
        del data["verification"][key]
    for piece in data["verification"]["pieces"]:
        for key in ("gate", "units", "operator"):
            del piece[key]
    del data["precision"]["blocks"], data["gate"], data["timings"]
    said = words(render(data))
    assert "layer1.0.conv2 ✓ PASS" in said
    for absent in ("Budgets", "Gates", "Latency", "PyTorch in fp16"):
        assert absent not in said


@pytest.mark.parametrize(
    "where", ["pieces", "budgets", "task", "comparisons", "against_float64", "pytorch_same_precision"]
)
@pytest.mark.parametrize("value", [None, 3, "text", {}, [None], [{}], [{"gate": {"gates": "nan"}}]])
def test_odd_verifications_are_tolerated(where: str, value: Json) -> None:
    verification = half_manifest(2)["verification"]
    assert isinstance(verification, dict)
    assert "</html>" in render({**half_manifest(2), "verification": {**verification, where: value}})


@pytest.mark.parametrize("value", ["inf", "nan", "text", -1, 0, 1e308, True, None, [], {}])
def test_whatever_stands_where_numbers_were_the_page_is_written(value: Json) -> None:
    def changed(item: Json) -> Json:
        if isinstance(item, dict):
            return {k: changed(v) for k, v in item.items()}
        if isinstance(item, list):
            return [changed(v) for v in item]
        return value if isinstance(item, int | float) else item

    data = changed(json.loads(json.dumps(half_manifest(2, broken=1))))
    assert isinstance(data, dict)
    assert "</html>" in render(data)


def test_characters_that_change_the_reading_direction_become_visible() -> None:
    text = render(manifest(path="a\u202eb\x1b[2J"))
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "a\\u202eb\\x1b[2J" in text


def test_the_plot_of_many_comparisons_shows_the_worst_and_the_table_all() -> None:
    rows = [comparison(f"case {i}", 1e-9 * (i + 1)) for i in range(40)] + [comparison("broken", math.nan)]
    text = render({"verification": {"verdict": "PASS", "comparisons": to_json(rows)}})
    plot = text[text.index('<table class="plot') : text.index("</table>")]
    shown = re.findall(r"(case \d+|broken):", plot)
    assert shown == ["broken", *(f"case {i}" for i in range(39, 28, -1))]
    assert "the 12 of 41 comparisons" in words(text)
    assert all(f"case {i}:" in text for i in range(40))


def test_colours_come_in_light_dark_and_print() -> None:
    names = re.findall(r"--([\w-]+):", render({}).replace("--columns:", ""))
    assert names
    assert all(names.count(name) == 3 for name in names)
