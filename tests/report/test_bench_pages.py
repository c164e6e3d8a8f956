"""One benchmark as Markdown, HTML and on the terminal: hostile names, missing parts, and the plots' geometry."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest

from scconv_deploy.bench.break_even import Point, sweep
from scconv_deploy.bench.honesty import honesty_table
from scconv_deploy.bench.rounds import Samples
from scconv_deploy.bench_config import BreakEvenConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.measurements import BenchReport, Estimate
from scconv_deploy.profiles import HonestyTable
from scconv_deploy.report.bench_charts import (
    distributions,
    heat,
    heat_maps,
    log_axis,
    ratio_bars,
    roofline,
    time_bars,
)
from scconv_deploy.report.bench_html import render_benchmark
from scconv_deploy.report.bench_markdown import markdown
from scconv_deploy.report.bench_terminal import show_why
from scconv_deploy.report.bench_words import HONESTY_COLUMNS, honesty_cells, ms, share
from scconv_deploy.report.terminal import console
from tests.bench_unit.profiles import OURS, ROOF, SUBJECT, TWIN
from tests.bench_unit.reports import measurement, report
from tests.bench_unit.test_break_even import samples
from tests.report.page import Page, words

EVIL = "a|b`c` <script>alert(1)</script>\n@user #1 \x1b[31m"


def table() -> HonestyTable:
    return honesty_table(SUBJECT, OURS, TWIN, ROOF, 0)


def full(name: str = "ours") -> BenchReport:
    def race(point: Point) -> tuple[Samples, Samples]:
        return samples(1e8 / point[0]), samples(1e6)

    swept = sweep(BreakEvenConfig(channels=(64, 128), sides=(28, 14), batches=(1,)), race, Silence())
    ours = dataclasses.replace(
        measurement(name, 10.0, 0.8, "ours"), samples_ms=((9.0, 10.0, 11.0), (10.0, 60.0))
    )
    found = report(measurement("plain twin", 12.5, 1.0, "plain"), ours)
    honest = dataclasses.replace(table(), name=name, notes=(EVIL,))
    return dataclasses.replace(found, honesty=(honest,), break_even=swept, notes=(EVIL,))


def test_the_page_is_well_formed_and_says_what_was_found() -> None:
    text = words(render_benchmark(full()))
    for said in (
        "FASTER",
        "faster than the plain network here: 0.57 of its time",
        "slower: SRU is memory-bound and takes 30 % of the time; 1.25 times the plain convolution's",
        "(not attributed)",
        "breaks even from C = 128",
        "100 GFLOP/s",
        "0.80 [0.79, 0.81]",
        "fingerprint",
        "onnxruntime, fp32",
    ):
        assert said in text, said


def test_the_page_holds_no_script_and_nothing_from_outside() -> None:
    page = Page(render_benchmark(full(EVIL)))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src"):
            assert value is not None
            assert value.startswith("#")
    assert any("alert(1)" in t for t in page.text), "the name is shown, as text"
    assert "\x1b" not in render_benchmark(full(EVIL))


def test_every_link_on_the_page_has_its_target() -> None:
    page = Page(render_benchmark(full()))
    ids = [v for n, v in page.attributes if n == "id"]
    assert len(ids) == len(set(ids))
    assert {v[1:] for n, v in page.attributes if n == "href" and v} <= set(ids)


def test_no_coordinate_is_nan_or_outside() -> None:
    html = render_benchmark(full())
    assert not re.search(r'="[^"]*\b(nan|inf|None)\b', html)
    for value in re.findall(r'<rect class="[a-z-]+" x="([-\d.]+)"', html):
        assert -10 <= float(value) <= 420


@pytest.mark.parametrize("part", ["honesty", "break_even", "both", "measurements"])
def test_each_part_may_be_missing(part: str) -> None:
    whole = full()
    missing = {
        "honesty": {"honesty": ()},
        "break_even": {"break_even": None},
        "both": {"honesty": (), "break_even": None},
        "measurements": {"measurements": (), "conditions": (), "honesty": ()},
    }[part]
    less = dataclasses.replace(whole, **missing)  # type: ignore[arg-type]
    Page(render_benchmark(less))
    assert markdown(less).endswith("\n")
    show_why(console(io.StringIO()), less)


def test_markdown_tables_keep_their_columns_whatever_a_name_holds() -> None:
    text = markdown(full(EVIL))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    headings = [i for i, row in enumerate(rows) if row.startswith("| ---")]
    for start, end in zip(headings, [*(h - 1 for h in headings[1:]), len(rows)], strict=True):
        assert len(set(widths[start - 1 : end])) == 1
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", text).replace("\\<script\\>", "")
    assert "\x1b" not in text
    outside_code = re.sub(r"`[^`\n]*`", "", text)
    assert not re.search(r"(?<!\\)[@#](user|1)", outside_code)


def test_markdown_has_the_numbers_of_the_table() -> None:
    text = markdown(full())
    assert "| `a.conv` |" in text
    assert "1.25 [1.25, 1.25]" in text
    assert "| 28x28 | 1.56 [1.56, 1.56] | 0.78 [0.78, 0.78] |" in text


def test_the_terminal_says_why_in_100_columns() -> None:
    stream = io.StringIO()
    show_why(console(stream), full(EVIL))
    out = stream.getvalue()
    assert "a.conv: slower: SRU is memory-bound and takes 30 % of the time" in out
    assert "breaks even from C = 128" in out
    assert "\x1b" not in out
    table_lines = [line for line in out.splitlines() if line.startswith(("place", "a.conv ", "(whole"))]
    assert table_lines
    assert all(len(line) <= 100 for line in table_lines)


def test_a_rows_cells_fit_its_heading() -> None:
    assert len(honesty_cells(table().net, ROOF)) == len(HONESTY_COLUMNS)
    assert (ms(1234.5), ms(12.345), ms(0.0123)) == ("1234", "12.3", "0.012")
    assert (share(0.001), share(0.0), share(None), share(0.314)) == ("<1 %", "0 %", "-", "31 %")


def test_a_distribution_shows_its_slowest_call() -> None:
    rows = full().measurements
    axis, shapes = distributions(rows)
    assert axis is not None
    own = shapes[1]
    assert own.name == "ours"
    assert len(own.columns) == 4
    assert max(left for left, _, _ in own.columns) > 80, "the 60 ms call is there"
    assert own.low < own.median < own.tail <= own.high
    assert shapes[0].columns == (), "without raw samples there are only quantiles"


def test_ratio_bars_begin_at_one() -> None:
    axis, bars = ratio_bars(
        [("half", Estimate(0.5, 0.4, 0.6)), ("twice", Estimate(2, 1.9, 2.1)), ("no", None)]
    )
    assert axis is not None
    assert [b.look for b in bars] == ["gain", "loss"]
    assert bars[0].left + bars[0].width == pytest.approx(axis.percent(1), abs=0.02)
    assert bars[1].left == axis.percent(1)
    assert bars[0].width == pytest.approx(bars[1].width, abs=0.05)
    assert ratio_bars([("no", None)]) == (None, ())


def test_time_bars_end_where_the_blocks_time_does() -> None:
    first, second = time_bars(table())
    assert [p[2] for p in first.pieces] == ["sru", "cru"]
    assert [p[2] for p in second.pieces] == ["sru", "cru", "own-part"]
    assert first.plain is not None
    assert second.plain is not None
    end = sum(second.pieces[-1][:2])
    assert end / second.plain == pytest.approx(100 / 400, rel=0.01)


def test_the_roof_bends_at_the_ridge_and_points_lie_where_they_should() -> None:
    found = roofline(table())
    assert found is not None
    (x0, y0), (x1, y1), (x2, y2) = found.roof
    assert x0 < x1 < x2
    assert y0 > y1 == y2
    assert found.ridge == x1 == found.x_axis.percent(10.0)
    kinds = [p.kind for p in found.points]
    assert kinds == ["sru", "cru", "sru", "cru", "outside"]
    sru = found.points[0]
    assert sru.x == found.x_axis.percent(2 / 300)


def test_heat_has_a_cell_per_point_and_a_gap_where_none_was_measured() -> None:
    swept = full().break_even
    assert swept is not None
    (whole,) = heat_maps(swept)
    assert [c[1] for c in whole.rows[0].cells if c] == ["loss3", "gain2"]
    (less,) = heat_maps(dataclasses.replace(swept, points=swept.points[:-1]))
    assert less.rows[1].cells[1] is None
    assert heat(Estimate(0.9, 0.8, 1.1)) == "even"


def test_axes_have_ticks_inside_and_survive_nothing() -> None:
    assert log_axis([0.0, float("nan"), float("inf")]) is None
    for low, high in ((9.0, 11.0), (0.03, 0.5), (1.0, 5e6)):
        axis = log_axis([low, high])
        assert axis is not None
        assert 1 <= len(axis.ticks) <= 8
        assert all(0 <= t.percent <= 100 for t in axis.ticks)
    single = log_axis([3.0])
    assert single is not None
    assert single.percent(3.0) == pytest.approx(50, abs=0.1)
