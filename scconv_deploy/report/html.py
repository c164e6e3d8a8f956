"""A manifest -> one self-contained HTML page: no script, no external resource, light and dark.

Every string is escaped by the template engine (a module path may contain ``<script>``); the only markup made
in Python is none at all: the bars of the error chart are numbers that the template places in an inline SVG.
Missing keys are shown as missing, so that older and newer bundles can be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, Template

from scconv_deploy.artifacts import Json
from scconv_deploy.report.manifest import (
    Section,
    as_section,
    plural,
    profile_text,
    shape_text,
    size_text,
    small,
)
from scconv_deploy.report.summary import kernel_sentence
from scconv_deploy.report.terminal import duration
from scconv_deploy.verdicts import Verdict

BAR_FLOOR_DECADES = 6
"""Errors this many powers of ten below the largest limit (or lower) get the shortest bar."""

BARS_SHOWN = 12
"""The chart shows the comparisons nearest to (or farthest beyond) their limit; the table shows all."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the error chart, in percent of the chart's width: the error and its limit."""

    label: str
    error: str
    limit: str
    error_percent: float
    limit_percent: float
    failed: bool


def render(manifest: Mapping[str, Json]) -> str:
    """The report of one bundle as a complete HTML document.

    Args:
        manifest: a parsed ``manifest.json``; every key may be missing or None.
    """
    view = as_section(manifest)
    verification = view.section("verification")
    return _template().render(
        m=view,
        title=_title(view),
        verdict=_verdict(verification),
        verification=verification,
        comparisons=verification.sections("comparisons"),
        bars=error_bars(_nearest_to_limit(verification.sections("comparisons"))),
        recognition=view.section("recognition"),
        kernels=view.section("kernel_report"),
        kernel_sentence=kernel_sentence(view.section("kernel_report")),
    )


def error_bars(comparisons: tuple[Section, ...]) -> tuple[Bar, ...]:
    """Largest absolute error against its limit, on one logarithmic scale for all comparisons.

    A non-finite error fills the chart: it must look like the worst, not like nothing.
    """
    rows = [(item, item.section("metrics").number("max_abs"), item.number("limit")) for item in comparisons]
    positive = [v for _, *pair in rows for v in pair if v is not None and math.isfinite(v) and v > 0]
    if not positive:
        return ()
    top = math.log10(max(positive)) + 0.25
    limits = [limit for _, _, limit in rows if limit is not None and math.isfinite(limit) and limit > 0]
    floor = math.log10(max(limits or positive)) - BAR_FLOOR_DECADES

    def percent(value: float | None) -> float:
        if value is None or value == 0 or value < 0:
            return 0.0
        if not math.isfinite(value):
            return 100.0
        return round(min(max((math.log10(value) - floor) / (top - floor), 0.01), 1.0) * 100, 2)

    return tuple(
        Bar(
            label=f"{item.text('case') or '?'}: {item.text('output') or '?'}",
            error=small(error),
            limit=small(limit),
            error_percent=percent(error),
            limit_percent=percent(limit),
            failed=item.text("verdict") == Verdict.FAIL.value,
        )
        for item, error, limit in rows
    )


def _nearest_to_limit(comparisons: tuple[Section, ...]) -> tuple[Section, ...]:
    """The ``BARS_SHOWN`` comparisons that use most of their limit, in report order; NaN uses the most."""

    def used(item: Section) -> float:
        error, limit = item.section("metrics").number("max_abs"), item.number("limit")
        if error is None or not math.isfinite(error) or not limit:
            return math.inf
        return error / limit

    chosen = sorted(range(len(comparisons)), key=lambda i: -used(comparisons[i]))[:BARS_SHOWN]
    return tuple(comparisons[i] for i in sorted(chosen))


def _title(view: Section) -> str:
    artifact = view.text("artifact") or "bundle"
    target = view.text("target")
    return f"{artifact} for {target}" if target else artifact


def _verdict(verification: Section) -> tuple[str, str, str]:
    """Word, sentence and CSS class of the headline."""
    word = verification.text("verdict")
    if word is None:
        return "UNVERIFIED", "Nothing was compared with PyTorch (--no-verify).", "unsure"
    kind = {Verdict.PASS.value: "good", Verdict.FAIL.value: "bad"}.get(word, "unsure")
    return word, verification.text("sentence") or "", kind


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else duration(value)


def _by_count(section: Section) -> list[tuple[str, int]]:
    """Names with their counts, the largest first."""
    counts = [(name, count) for name in section.data if (count := section.number(name)) is not None]
    return sorted(((name, int(count)) for name, count in counts), key=lambda pair: -pair[1])


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("scconv_deploy", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        small=small,
        size=size_text,
        tensor=shape_text,
        profile=profile_text,
        percent=_percent,
        seconds=_seconds,
        by_count=_by_count,
        plural=plural,
    )
    return environment.get_template("bundle.html.jinja")
