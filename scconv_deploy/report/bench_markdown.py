"""A :class:`BenchReport` -> Markdown to paste into an issue: machine, latency, the honesty table, break-even.

Names come from the user's files, so they stand in code spans, where neither markup, HTML nor mentions act; other
text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from scconv_deploy.measurements import BenchReport, Conditions
from scconv_deploy.profiles import BreakEven, BreakEvenPoint, HonestyTable
from scconv_deploy.report import bench_words as words
from scconv_deploy.report.benchmark import machine_sentence, noise_words
from scconv_deploy.report.terminal import plain

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!@$&])")
MIB = 2**20


def markdown(report: BenchReport) -> str:
    """The whole report; sections for which there is nothing are left out."""
    parts = [f"**scconv-bench**, {_text(report.date)}. {_text(machine_sentence(report.machine))}."]
    parts += [_setting(report, c) for c in report.conditions]
    parts += [_honesty(t) for t in report.honesty]
    if report.break_even is not None:
        parts.append(_break_even(report.break_even))
    if report.baseline is not None:
        found = report.baseline
        slower = [f"SLOWER: {s}" for s in found.slower]
        rest = [c.sentence for c in found.checks if not c.is_slower]
        parts.append(f"### Baseline {_name(found.file)}\n\n" + _list([*slower, *rest, *found.notes]))
    if report.not_measured or report.notes:
        parts.append("### Notes\n\n" + _list([*report.not_measured, *report.notes]))
    known = ", ".join(f"{n} {v}" for n, v in report.versions.items() if v)
    parts.append(f"<sub>{_text(known)}</sub>")
    return "\n\n".join(parts) + "\n"


def _setting(report: BenchReport, condition: Conditions) -> str:
    rows = words.rows_of(report, condition)
    tails = [p for p in rows[0].percentiles_ms if p != "50"] if rows else []
    head = (
        ["backend", "median ms"]
        + [f"p{p}" for p in tails]
        + ["std", "items/s", "ratio", "to naive", "load ms", "peak MiB"]
    )
    table = _table(
        head,
        (
            [
                _name(m.name),
                words.ms(m.median_ms),
                *(words.ms(m.percentiles_ms[p]) for p in tails),
                words.ms(m.std_ms),
                words.ms(m.items_per_s),
                words.interval(m.against_yardstick),
                words.interval(m.against_naive),
                words.ms(m.load_ms),
                "-" if m.memory is None else f"{m.memory.peak_bytes / MIB:.0f}",
            ]
            for m in rows
        ),
    )
    said = f"Yardstick {_name(condition.yardstick)}; {_text(noise_words(condition.noise))}."
    warned = "".join(f"\n\n**Warning:** {_text(w)}." for w in condition.noise.warnings)
    title = words.setting(condition.batch, condition.threads)
    return f"### Latency, {title}\n\n{said}{warned}\n\n{table}"


def _honesty(table: HonestyTable) -> str:
    roof = table.ceilings
    rows = [
        [_name(p.cost.name), *words.honesty_cells(p, roof), _text(p.sentence)]
        for p in (table.net, *table.blocks)
    ]
    rows += [[_text(c.name), *words.rest_cells(c, roof), ""] for c in (table.outside, table.unattributed)]
    return "\n\n".join(
        (
            f"### Why: {_name(table.name)}, {words.setting(table.batch, table.threads)}",
            f"**{_text(table.net.sentence)}**",
            _table(["place", *words.HONESTY_COLUMNS, "verdict"], rows),
            _text(words.ceilings_sentence(roof)),
            *(_text(e) for e in words.EXPLANATIONS),
            *((_list(table.notes),) if table.notes else ()),
        )
    )


def _break_even(found: BreakEven) -> str:
    channels = list(dict.fromkeys(p.channels for p in found.points))
    parts = [
        f"### Break-even: SCConv {_text(found.family)} ({_text(found.form)}) against a "
        f"{found.kernel}x{found.kernel} convolution, {words.setting(1, found.threads).partition(', ')[2]}",
    ]
    for batch in dict.fromkeys(p.batch for p in found.points):
        here = [p for p in found.points if p.batch == batch]
        sides = list(dict.fromkeys(p.side for p in here))
        rows = [[f"{s}x{s}", *(_cell(here, s, c) for c in channels)] for s in sides]
        parts.append(_table([f"batch {batch}", *(f"C = {c}" for c in channels)], rows))
    parts.append(_list([*found.sentences, *found.notes]))
    return "\n\n".join(parts)


def _cell(points: Sequence[BreakEvenPoint], side: int, channels: int) -> str:
    point = next((p for p in points if (p.side, p.channels) == (side, channels)), None)
    return "-" if point is None else words.interval(point.ratio)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_text(t)}" for t in texts)


def _name(text: str) -> str:
    """A code span. A backtick would end it, and a bar would end the table's cell even inside it."""
    return "`" + (plain(text).replace("`", "'").replace("|", "\\|") or " ") + "`"


def _text(text: str) -> str:
    return SPECIAL.sub(r"\\\1", plain(text))
