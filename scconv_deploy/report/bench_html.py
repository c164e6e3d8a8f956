"""A :class:`BenchReport` -> one self-contained HTML page: no script, no external resource; phone, print, dark.

Tables hold every number; the plots beside them are inline SVG drawn by the templates from the geometry of
:mod:`scconv_deploy.report.bench_charts`. Every string is escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from jinja2 import Template

from scconv_deploy.measurements import BenchReport, Conditions
from scconv_deploy.profiles import Standing
from scconv_deploy.report import bench_charts as charts
from scconv_deploy.report import bench_words as words
from scconv_deploy.report.benchmark import machine_sentence, noise_words
from scconv_deploy.report.html import moment, page_environment
from scconv_deploy.report.manifest import size_text

MARKS = {"good": "✓", "bad": "✗", "unsure": "?"}
TITLES = {
    Standing.FASTER: "FASTER",
    Standing.SLOWER: "SLOWER",
    Standing.LEVEL: "LEVEL",
    Standing.UNKNOWN: "MEASURED",
}


def render_benchmark(report: BenchReport) -> str:
    """The whole page; sections for which there is nothing are left out."""
    return _template().render(
        r=report,
        title=_title(report),
        verdict=_verdict(report),
        warnings=[
            f"{words.setting(c.batch, c.threads)}: {w}; measure again on a quiet machine."
            for c in report.conditions
            for w in c.noise.warnings
        ],
        tiles=_tiles(report),
        settings=[_setting(report, c) for c in report.conditions],
        tables=[
            (t, charts.time_bars(t), charts.roofline(t), words.headline(t), words.KINDS[t.net.standing])
            for t in report.honesty
        ],
        sweep=report.break_even,
        maps=charts.heat_maps(report.break_even) if report.break_even is not None else (),
        machine=machine_sentence(report.machine),
        columns=words.HONESTY_COLUMNS,
        explanations=words.EXPLANATIONS,
        marks=MARKS,
    )


def _title(report: BenchReport) -> str:
    subjects = list(dict.fromkeys(m.subject for m in report.measurements))
    if not subjects:
        return "Break-even of SCConv"
    return f"Latency of {', '.join(subjects[:3])}" + (" and more" if len(subjects) > 3 else "")


def _verdict(report: BenchReport) -> tuple[str, str, Sequence[str]]:
    """Word, class and sentences of the headline."""
    if not report.honesty:
        sweep = report.break_even.sentences if report.break_even is not None else ()
        return "MEASURED", "unsure", sweep or ("Nothing here has certified blocks to explain.",)
    standings = {t.net.standing for t in report.honesty}
    sentences = [words.headline(t) for t in report.honesty]
    if len(standings) > 1:
        return "IT DEPENDS", "unsure", sentences
    (only,) = standings
    return TITLES[only], words.KINDS[only], sentences


def _tiles(report: BenchReport) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    ours = next((m for m in report.measurements if m.kind in ("ours", "bundle")), None)
    if ours is not None:
        where = words.setting(ours.batch, ours.threads)
        found.append(("Median", f"{words.ms(ours.median_ms)} ms", f"{ours.name}, {where}"))
        if "99" in ours.percentiles_ms:
            found.append(("99th percentile", f"{words.ms(ours.percentiles_ms['99'])} ms", "of every call"))
        ratio = ours.against_yardstick
        yardstick = report.condition(ours).yardstick
        if ratio is not None and yardstick != ours.name:
            about = f"of {yardstick}'s time, 95 % from {ratio.low:.2f} to {ratio.high:.2f}"
            found.append(("Ratio", f"{ratio.value:.2f}", about))
        if ours.against_naive is not None:
            found.append(("Against naive export", f"{ours.against_naive.value:.2f}", "of its time"))
        if size := size_text(ours.size_bytes):
            found.append(("Model files", size, ours.precision))
    if report.honesty:
        table = report.honesty[0]
        sru = next((u for u in table.net.units if u.name == "SRU"), None)
        if sru is not None:
            found.append(("SRU", words.share(sru.share), "of the network's time"))
    return found


def _setting(report: BenchReport, condition: Conditions) -> dict[str, object]:
    rows = words.rows_of(report, condition)
    axis, shapes = charts.distributions(rows)
    others = [(m.name, m.against_yardstick) for m in rows if m.name != condition.yardstick]
    ratio_axis, bars = charts.ratio_bars(others)
    tails = [p for p in rows[0].percentiles_ms if p != "50"] if rows else []
    return {
        "condition": condition,
        "name": words.setting(condition.batch, condition.threads),
        "noise": noise_words(condition.noise),
        "rows": rows,
        "axis": axis,
        "shapes": shapes,
        "ratio_axis": ratio_axis,
        "bars": bars,
        "tails": tails,
    }


@cache
def _template() -> Template:
    environment = page_environment()
    environment.filters.update(
        ms=words.ms,
        share=words.share,
        interval=words.interval,
        size=size_text,
        moment=moment,
        honesty=words.honesty_cells,
        rest=words.rest_cells,
        setting=lambda t: words.setting(t.batch, t.threads),
        ceilings=words.ceilings_sentence,
        standing=words.KINDS.__getitem__,
    )
    return environment.get_template("bench.html.jinja")
