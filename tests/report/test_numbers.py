"""Every number that a page prints is one of its manifest's, in one of the page's forms."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from scconv_deploy.artifacts import Json
from scconv_deploy.report.html import render
from scconv_deploy.report.manifest import percent_text, rate_text, size_text, small
from scconv_deploy.report.terminal import duration
from scconv_deploy.report.to_json import number
from tests.report.half_example import half_manifest
from tests.report.page import words


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)*(?:e[-+]\d+)?", text))


def leaves(value: Json) -> Iterator[Json]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        yield len(value)
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def sayable(data: Json) -> set[str]:
    """Every number that a page about ``data`` may print: its own, in any of the page's forms, and counts."""
    found: set[str] = set()
    for leaf in leaves(data):
        if isinstance(leaf, str):
            found |= numbers_in(leaf)
        if leaf is None or isinstance(leaf, bool) or (isinstance(leaf, str) and leaf not in ("nan", "inf")):
            continue
        x = number(leaf)
        forms = [
            small(x),
            f"{x:.4g}",
            str(leaf),
            percent_text(x),
            rate_text(x),
            size_text(x) or "",
            duration(x),
        ]
        if math.isfinite(x):
            forms.append(f"{int(x):,}")
        found |= {n for form in forms for n in numbers_in(form)}
    return found


def derived(data: Json) -> set[str]:
    """Rates are flips over gates, sums are over blocks or bins, and mathematics has numbers of its own."""
    assert isinstance(data, dict)
    found = {"64", "1", "256", "99", "90"}  # float64, top-1, SHA-256, p99, p90
    pieces = data["verification"]["pieces"]  # type: ignore[index, call-overload]
    for piece in json.loads(json.dumps(pieces)):
        gate = piece["gate"]
        if gate is not None:
            for flips in (gate["flips"], gate["pytorch_flips"]):
                found |= numbers_in(rate_text(flips / gate["gates"]))
            for key in ("flips", "gates"):
                found.add(f"{sum(b[key] for b in gate['histogram']):,}")
    return found


def test_every_number_on_the_page_comes_from_the_manifest() -> None:
    data = json.loads(json.dumps(half_manifest(16, broken=9)))
    folded = {"10", "6"}  # ten of sixteen histograms fold away; log axes are powers of ten
    said = numbers_in(words(render(data)))
    assert said - sayable(data) - derived(data) - folded == set()
    data["verification"]["pieces"][0]["max_abs"] = 0.00987  # broken twin: the manifest says something else
    assert "0.00987" not in said
    assert "0.00987" in numbers_in(words(render(data)))
