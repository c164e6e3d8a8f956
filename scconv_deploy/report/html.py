"""A manifest -> one self-contained HTML page: no script, no external resource; phone, print, light and dark.

The page holds nothing that the manifest does not hold: it is rendered from it alone. Every string is escaped
by the template engine (a module path may contain ``<script>``), and control and direction-changing characters
become visible. The plots are inline SVG drawn by the templates from the numbers of
:mod:`scconv_deploy.report.charts`. Missing keys are shown as missing, so that bundles of every version can be
read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from scconv_deploy.artifacts import Json
from scconv_deploy.report import figures, rows
from scconv_deploy.report.manifest import (
    Section,
    as_section,
    percent_text,
    plural,
    profile_text,
    rate_text,
    shape_text,
    size_text,
    small,
)
from scconv_deploy.report.modules import module_rows
from scconv_deploy.report.specification import channels, kinds
from scconv_deploy.report.summary import kernel_sentence
from scconv_deploy.report.terminal import duration, plain
from scconv_deploy.verdicts import Verdict

KINDS = {Verdict.PASS.value: "good", Verdict.FAIL.value: "bad"}
MARKS = {"good": "✓", "bad": "✗", "unsure": "?"}


def render(manifest: Mapping[str, Json]) -> str:
    """The report of one bundle as a complete HTML document.

    Args:
        manifest: a parsed ``manifest.json``; every key may be missing, None or of an unexpected type.
    """
    view = as_section(manifest)
    verification = view.section("verification")
    blocks = view.section("recognition").sections("blocks")
    return _template().render(
        m=view,
        title=_title(view),
        verdict=_verdict(verification),
        verification=verification,
        located=figures.located(verification),
        highlights=_highlights(view, verification),
        style=_style(view.section("style")),
        blocks=blocks,
        variants=_variants(blocks),
        kinds=kinds(blocks),
        pieces=rows.pieces(verification, {b.text("path") or "(root)" for b in blocks}),
        gates=rows.gates(verification),
        end_to_end=rows.end_to_end(verification),
        truths=rows.truths(verification),
        precision=rows.precision(view),
        kernels=rows.kernels(view.section("kernel_report")),
        modules=module_rows(view.section("kernel_report")),
        roofline=view.section("kernel_report").section("roofline").text("words"),
        kernel_sentence=kernel_sentence(view.section("kernel_report")),
        stages=rows.stages(view.sections("stages")),
        timings=rows.latency(view),
        notes=_notes(view, verification),
    )


def _title(view: Section) -> str:
    artifact = view.text("artifact") or "bundle"
    target = view.text("target")
    return f"{artifact} for {target}" if target else artifact


def _verdict(verification: Section) -> tuple[str, str, str]:
    """Word, sentence and CSS class of the headline."""
    word = verification.text("verdict")
    if word is None:
        return "UNVERIFIED", "Nothing was compared with PyTorch (--no-verify).", "unsure"
    return word, verification.text("sentence") or "", KINDS.get(word, "unsure")


def _highlights(view: Section, verification: Section) -> list[tuple[str, str, str]]:
    """Label, figure and its explanation: what a reader in a hurry wants to know."""
    found: list[tuple[str, str, str]] = []
    precision = view.section("precision")
    if built := precision.text("built"):
        io = precision.text("io")
        found.append(
            (
                "Precision built",
                built,
                f"{precision.text('asked') or '?'} asked" + (f", I/O {io}" if io else ""),
            )
        )
    recognition = view.section("recognition")
    if recognition:
        left = len(recognition.sections("left_as_is"))
        found.append(
            ("SCConv blocks", str(len(recognition.sections("blocks"))), f"certified; {left} left as is")
        )
    if flips := figures.flips(verification):
        own = "" if flips.pytorch_rate is None else f"; PyTorch's own {rate_text(flips.pytorch_rate)}"
        found.append(("Gates flipped", rate_text(flips.worst_rate), f"in the worst block{own}"))
    if quality := figures.quality(verification):
        found.append((quality.label.capitalize(), quality.value, quality.words))
    size = size_text(view.section("files").section(view.text("artifact") or "").number("size_bytes"))
    if size:
        found.append(("Artifact", size, view.text("artifact") or ""))
    if (kernels := view.section("kernel_report").number("kernels")) is not None:
        found.append(("Kernels", small(kernels), "as the builder reports"))
    return found


def _style(style: Section) -> list[str]:
    """What the graph's style says, in words: switches that are on, and settings with their values."""
    on = [name.replace("_", " ") for name, value in style.data.items() if value is True]
    return on + [f"{name.replace('_', ' ')} {value}" for name, value in style.pairs()]


def _variants(blocks: tuple[Section, ...]) -> list[tuple[str, int]]:
    """How many blocks of each variant, the most frequent first."""
    names = [b.text("variant") or "?" for b in blocks]
    return sorted(((name, names.count(name)) for name in dict.fromkeys(names)), key=lambda pair: -pair[1])


def _notes(view: Section, verification: Section) -> list[str]:
    """Notes of the run and of the comparison, each once; the reason of not executing has its own place."""
    every = dict.fromkeys((*view.texts("notes"), *verification.texts("notes")))
    return [note for note in every if note != view.text("not_executed")]


def _kind(word: str | None) -> str:
    """CSS class of a verdict's word."""
    return KINDS.get(word or "", "unsure")


def _mark(kind: str) -> str:
    """A mark that tells verdicts apart without colour."""
    return MARKS[kind]


def _small4(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def moment(text: str) -> str:
    """An ISO moment without the T that nobody reads; any other text as it stands."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(\+00:00|Z)$", r"\1 at \2 UTC", text)


def _seconds(value: float | None) -> str:
    return "-" if value is None else duration(value)


def visible(value: object) -> object:
    """Make control and direction-changing characters of every printed string visible and harmless."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(plain(line) for line in value.split("\n"))
    return value


def page_environment() -> Environment:
    """Templates of ``report/``: everything escaped and made visible, an unknown name an error."""
    return Environment(
        loader=PackageLoader("scconv_deploy", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=visible,
    )


@cache
def _template() -> Template:
    environment = page_environment()
    environment.filters.update(
        small=small,
        size=size_text,
        tensor=shape_text,
        profile=profile_text,
        percent=percent_text,
        rate=rate_text,
        seconds=_seconds,
        plural=plural,
        kind=_kind,
        mark=_mark,
        channels=channels,
        case_name=rows.case_name,
        small4=_small4,
        moment=moment,
    )
    return environment.get_template("bundle.html.jinja")
