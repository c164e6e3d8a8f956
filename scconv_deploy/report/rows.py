"""Sections of a manifest -> the rows of the page's plots: label, numbers, and bars in percent of an axis.

One function per plot; each returns a :class:`Plot` (or a few), empty where the manifest has nothing to show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scconv_deploy.report.charts import Histogram, Scale, count, histogram, scale, share, tallest
from scconv_deploy.report.figures import failed, flip_budget, rate, used, watched
from scconv_deploy.report.manifest import Section, plural, rate_text, small
from scconv_deploy.report.terminal import duration
from scconv_deploy.verdicts import Verdict

CASES_SHOWN = 12
"""The plot shows the comparisons that use most of their limit; the table shows all."""
HISTOGRAMS_OPEN = 6
"""So many blocks' histograms are open at once, those with most flips first; the others fold away."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a plot. ``bar`` and ``limit`` are percents of the axis; ``values`` are printed beside it.

    ``look`` is the bar's CSS class; ``depth`` 1 indents the label below the row it belongs to.
    """

    label: str
    bar: float | None
    values: tuple[str, ...]
    limit: float | None = None
    verdict: str | None = None
    look: str = "plain"
    depth: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """Rows on one axis. ``axis`` is None where bars start at zero and their values say enough."""

    rows: tuple[Row, ...]
    axis: Scale | None = None

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def troubled(self) -> bool:
        """Whether any row did not pass."""
        return any(row.verdict not in (None, Verdict.PASS.value) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Blocks with their units, and the layers outside them, on the same axis."""

    blocks: Plot
    outside: Plot


@dataclass(frozen=True, slots=True)
class Gates:
    """Flip rates, the table's sections in the graph's order, and histograms (first those worth a look)."""

    rates: Plot
    budget: float | None
    checks: tuple[Section, ...]
    open: tuple[Histogram, ...]
    folded: tuple[Histogram, ...]
    arithmetic: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cases:
    """Every comparison, worst first, and the plot of the worst."""

    plot: Plot
    comparisons: tuple[Section, ...]


def pieces(verification: Section, block_paths: Iterable[str]) -> Pieces:
    """Largest error against its limit, per block, unit and stretch of layers between blocks."""
    known = set(block_paths)
    checks = verification.sections("pieces")
    every = [*checks, *(unit for check in checks for unit in check.sections("units"))]
    axis = scale(item.number(key) for item in every for key in ("max_abs", "limit"))
    inside: list[Row] = []
    outside: list[Row] = []
    for check in checks:
        units = check.sections("units")
        name = check.text("piece") or "(root)"
        place = inside if name in known or units or check.section("gate") else outside
        place.append(_error_row(name, check, axis, _samples(check)))
        place += [_error_row(unit.text("unit") or "?", unit, axis, "", depth=1) for unit in units]
    return Pieces(Plot(tuple(inside), axis), Plot(tuple(outside), axis))


def gates(verification: Section) -> Gates:
    """Flips per block against the budget and PyTorch's own, and how near the threshold gates lie."""
    checks = watched(verification)
    budget = flip_budget(verification)
    shares = [rate(c.section("gate"), key) for c in checks for key in ("flips", "pytorch_flips")]
    axis = scale([*shares, budget])
    lines: list[Row] = []
    for check in checks:
        gate = check.section("gate")
        mine, own = rate(gate), rate(gate, "pytorch_flips")
        limit = axis.percent(budget) if axis else None
        over = mine is not None and budget is not None and mine > budget
        bar = axis.percent(mine) if axis else 0.0
        lines.append(
            Row(
                check.text("piece") or "(root)",
                bar,
                (rate_text(mine), f"{count(gate.number('flips')):,} of {count(gate.number('gates')):,}"),
                limit,
                look="failed" if over else "flips",
                detail="over the budget" if over else "",
            )
        )
        if own is not None:
            values = (rate_text(own), f"{count(gate.number('pytorch_flips')):,}")
            lines.append(
                Row("PyTorch itself", axis.percent(own) if axis else 0.0, values, look="own", depth=1)
            )
    highest = tallest(c.section("gate") for c in checks)
    drawn = [c for c in checks if c.section("gate").sections("histogram")]
    eager = sorted(drawn, key=lambda c: -(rate(c.section("gate")) or 0.0))[:HISTOGRAMS_OPEN]
    few = [_histogram(c, highest) for c in drawn if c in eager]
    rest = [_histogram(c, highest) for c in drawn if c not in eager]
    arithmetic = dict.fromkeys(a for c in checks if (a := c.section("gate").text("arithmetic")))
    return Gates(Plot(tuple(lines), axis), budget, checks, tuple(few), tuple(rest), tuple(arithmetic))


def end_to_end(verification: Section) -> Cases:
    """Error of each comparison, in the metric its limit applies to, against the limit; the worst first."""
    metric = verification.section("tolerance").text("metric") or "max_abs"
    items = sorted(
        verification.sections("comparisons"), key=lambda c: -used(_error(c, metric), c.number("limit"))
    )
    shown = items[:CASES_SHOWN]
    axis = scale(v for item in shown for v in (_error(item, metric), item.number("limit")))
    lines = tuple(
        Row(
            case_name(item),
            axis.percent(_error(item, metric)) if axis else 0.0,
            (small(_error(item, metric)), small(item.number("limit"))),
            axis.percent(item.number("limit")) if axis else None,
            verdict=item.text("verdict") or "?",
            look="failed" if failed(item) else "plain",
            detail="" if item.text("verdict") == Verdict.PASS.value else item.text("sentence") or "",
        )
        for item in shown
    )
    return Cases(Plot(lines, axis), tuple(items))


def truths(verification: Section) -> Plot:
    """Distance from float64 truth: this artifact, PyTorch in float32, PyTorch in the same precision."""
    precision = verification.text("precision") or "the same precision"
    series = (
        ("this artifact", "plain", verification.sections("against_float64")),
        (f"PyTorch in {precision}", "own", verification.sections("pytorch_same_precision")),
        ("PyTorch in fp32", "own", verification.sections("reference_against_float64")),
    )
    axis = scale(_error(item) for _, _, items in series for item in items)
    lines: list[Row] = []
    for name in dict.fromkeys(case_name(item) for _, _, items in series for item in items):
        lines.append(Row(name, None, ()))
        for label, look, items in series:
            found = next((item for item in items if case_name(item) == name), None)
            if found is None:
                continue
            error, agreement = _error(found), found.section("metrics").number("top1_agreement")
            top1 = "" if agreement is None else rate_text(agreement)
            bar = axis.percent(error) if axis else 0.0
            lines.append(Row(label, bar, (small(error), top1), look=look, depth=1))
    return Plot(tuple(lines), axis)


def kernels(report: Section) -> Plot:
    """Kernels per SCConv block, with the types they compute in."""
    per_block, types = report.section("kernels_per_block"), report.section("types_per_block")
    counts = [(path, n) for path in per_block.data if (n := per_block.number(path)) is not None]
    largest = max((n for _, n in counts), default=0.0)
    return Plot(
        tuple(
            Row(
                path or "(root)",
                share(n, largest),
                (f"{n:g}", ", ".join(f"{kind} {much}" for kind, much in types.section(path).pairs())),
            )
            for path, n in counts
        )
    )


def stages(timings: Sequence[Section]) -> Plot:
    """Seconds of each stage of the run."""
    largest = max((s for t in timings if (s := t.number("seconds")) is not None), default=0.0)
    return Plot(
        tuple(
            Row(
                timing.text("stage") or "?",
                share(timing.number("seconds"), largest),
                ("-" if (s := timing.number("seconds")) is None else duration(s),),
                detail=timing.text("result") or "",
            )
            for timing in timings
        )
    )


def latency(view: Section) -> tuple[tuple[str, ...], ...]:
    """Latency as text: subject, batch, threads, median, mean, p90, p99, min, ratio and its spread.

    Reads ``timings`` (a list of Timing) and ``benchmark`` (a BenchReport); empty where there is neither.
    """
    lines = []
    for item in (*view.sections("timings"), *view.section("benchmark").sections("measurements")):
        percentiles, ratio = item.section("percentiles_ms"), item.section("against_yardstick")
        p90, p99 = (_either(item.number(f"p{p}_ms"), percentiles.number(p)) for p in ("90", "99"))
        times = (item.number("median_ms"), item.number("mean_ms"), p90, p99, item.number("min_ms"))
        low, high = (_either(item.number(f"ratio_{end}"), ratio.number(end)) for end in ("low", "high"))
        lines.append(
            (
                item.text("name") or "?",
                item.text("batch") or "-",
                item.text("threads") or "-",
                *("-" if t is None else f"{t:.4g}" for t in times),
                small(_either(item.number("ratio"), ratio.number("value"))),
                "-" if low is None or high is None else f"{low:.3g} to {high:.3g}",
            )
        )
    return tuple(lines)


def precision(view: Section) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
    """Types as built: the roles, and per block path one type (or a dash) for each role."""
    blocks = view.section("precision").section("blocks")
    roles = tuple(dict.fromkeys(role for path in blocks.data for role in blocks.section(path).data))
    table = ((path or "(root)", blocks.section(path)) for path in blocks.data)
    return roles, tuple((path, tuple(types.text(role) or "-" for role in roles)) for path, types in table)


def case_name(item: Section) -> str:
    """``batch 8: logits 8x10``."""
    shape = "x".join(str(extent) for extent in item.items("shape"))
    return f"{item.text('case') or '?'}: {item.text('output') or '?'} {shape}".rstrip()


def _either(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def _error_row(name: str, item: Section, axis: Scale | None, samples: str, depth: int = 0) -> Row:
    word = item.text("verdict") or "?"
    error, limit = item.number("max_abs"), item.number("limit")
    sentence = "" if word == Verdict.PASS.value else item.text("sentence") or ""
    return Row(
        name,
        axis.percent(error) if axis else 0.0,
        (small(error), small(limit)),
        axis.percent(limit) if axis else None,
        verdict=word,
        look="failed" if failed(item) else "plain",
        depth=depth,
        detail="; ".join(part for part in (sentence, samples) if part),
    )


def _samples(check: Section) -> str:
    """What is worth saying about a piece's samples: those excused near a gate, and an operator at fault."""
    passed, total = check.number("passed_samples"), check.number("samples")
    words = []
    if passed is not None and total is not None and passed < total:
        words.append(f"{passed:g} of {plural(count(total), 'sample')} passed")
    if near := count(check.number("near_gate_samples")):
        words.append(f"{plural(near, 'sample')} with a gate inside the rounding band")
    if operator := check.text("operator"):
        words.append(f"first operator at fault: {operator}")
    return ", ".join(words)


def _histogram(check: Section, highest: int) -> Histogram:
    return histogram(check.text("piece") or "(root)", check.section("gate"), highest)


def _error(item: Section, metric: str = "max_abs") -> float | None:
    value = item.section("metrics").number(metric)
    return item.section("metrics").number("max_abs") if value is None else value
