"""Honesty tables and a break-even sweep -> what a person reads in 100 columns, below the latencies."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from scconv_deploy.measurements import BenchReport
from scconv_deploy.profiles import BreakEven, HonestyTable, PlaceCost, Standing
from scconv_deploy.report import bench_words as words
from scconv_deploy.report.benchmark import line, narrow_table
from scconv_deploy.report.terminal import encodable, plain, print_table

STYLES = {
    Standing.FASTER: "green",
    Standing.SLOWER: "red",
    Standing.LEVEL: "yellow",
    Standing.UNKNOWN: "",
}


def show_why(out: Console, report: BenchReport) -> None:
    """Both, where they are there."""
    for table in report.honesty:
        out.print()
        _honesty(out, table)
    if report.break_even is not None:
        out.print()
        _break_even(out, report.break_even)


def _honesty(out: Console, table: HonestyTable) -> None:
    line(out, f"why: {table.name}, {words.setting(table.batch, table.threads)}", "bold")
    line(out, table.net.sentence, STYLES[table.net.standing])
    made = narrow_table("place", "GFLOPs", "MB", "ms", "share", "GFLOP/s", "GB/s", "plain ms", "ratio", "SRU")
    for place in (table.net, *table.blocks):
        cells = words.honesty_cells(place, table.ceilings)
        made.add_row(_name(out, place), *_chosen(cells))
    for cost in (table.outside, table.unattributed):
        made.add_row(Text(encodable(out, plain(cost.name))), *_chosen(words.rest_cells(cost, table.ceilings)))
    print_table(out, made)
    line(out, words.ceilings_sentence(table.ceilings), "dim")
    for sentence, paths in _slow(table):
        line(out, f"{', '.join(paths)}: {sentence}", "red")


def _chosen(cells: tuple[str, ...]) -> list[str]:
    """Without the columns that 100 characters have no room for: intensity, shares of ceilings, CRU."""
    kept = [
        c for name, c in zip(words.HONESTY_COLUMNS, cells, strict=True) if name not in ("ops/byte", "CRU")
    ]
    return [c.partition(" (")[0].partition(" [")[0] for c in kept]


def _slow(table: HonestyTable) -> list[tuple[str, list[str]]]:
    """Why slower blocks are slower, equal reasons together; the times differ, so only the reason counts."""
    found: dict[str, list[str]] = {}
    for block in table.blocks:
        if block.standing is Standing.SLOWER:
            found.setdefault(block.sentence.partition(";")[0], []).append(block.cost.name)
    return list(found.items())


def _break_even(out: Console, found: BreakEven) -> None:
    line(
        out,
        f"break-even: SCConv {found.family} ({found.form}) over a {found.kernel}x{found.kernel} convolution, "
        f"{words.setting(1, found.threads).partition(', ')[2]}",
        "bold",
    )
    channels = list(dict.fromkeys(p.channels for p in found.points))
    table = narrow_table("batch, size", *(f"C = {c}" for c in channels))
    cells = {(p.batch, p.side, p.channels): p for p in found.points}
    for batch, side in dict.fromkeys((p.batch, p.side) for p in found.points):
        row = []
        for c in channels:
            point = cells.get((batch, side, c))
            style = "" if point is None else STYLES[point.standing]
            row.append(Text("-" if point is None else words.interval(point.ratio), style=style))
        table.add_row(f"{batch}, {side}x{side}", *row)
    print_table(out, table)
    for sentence in found.sentences:
        line(out, sentence)


def _name(out: Console, place: PlaceCost) -> Text:
    return Text(encodable(out, plain(place.cost.name)), style=STYLES[place.standing])
