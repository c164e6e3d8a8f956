"""Figures of a benchmark -> the words and cells that the Markdown and the HTML page share."""

from __future__ import annotations

from scconv_deploy.measurements import BenchReport, Conditions, Estimate, Measurement
from scconv_deploy.profiles import Ceilings, Cost, HonestyTable, PlaceCost, Standing

KINDS = {
    Standing.FASTER: "good",
    Standing.SLOWER: "bad",
    Standing.LEVEL: "unsure",
    Standing.UNKNOWN: "unsure",
}

HONESTY_COLUMNS = (
    *("GFLOPs", "MB moved", "ops/byte", "ms", "share", "GFLOP/s", "GB/s", "plain ms", "ratio", "SRU", "CRU"),
)


def ms(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.3f}"


def interval(estimate: Estimate | None) -> str:
    """``0.83 [0.81, 0.86]``."""
    if estimate is None:
        return "-"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def share(value: float | None) -> str:
    """``31 %``; what is not nothing never reads as 0."""
    if value is None:
        return "-"
    return "<1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %"


def rate(value: float | None, ceiling: float) -> str:
    """``44 (43 %)``: a rate, and its share of what the machine can."""
    return "-" if value is None else f"{value:.3g} ({100 * value / ceiling:.0f} %)"


def setting(batch: int, threads: int) -> str:
    """``batch 1, 2 threads``."""
    return f"batch {batch}, {threads} thread{'' if threads == 1 else 's'}"


def ceilings_sentence(roof: Ceilings) -> str:
    """Both ceilings and the ridge."""
    return (
        f"This machine's ceilings on {setting(1, roof.threads).partition(', ')[2]}: "
        f"{roof.gflop_per_s:.0f} GFLOP/s and {roof.gb_per_s:.1f} GB/s, so below "
        f"{roof.ridge:.1f} operations per byte memory is the limit ({roof.how})."
    )


def honesty_cells(place: PlaceCost, roof: Ceilings) -> tuple[str, ...]:
    """One row under :data:`HONESTY_COLUMNS`."""
    of_block = {u.name: u.share_of_block if u.share_of_block is not None else u.share for u in place.units}
    return (
        *_work(place.cost, roof),
        "-" if place.plain_ms is None else ms(place.plain_ms.value),
        interval(place.ratio),
        share(of_block.get("SRU")),
        share(of_block.get("CRU")),
    )


def rest_cells(cost: Cost, roof: Ceilings) -> tuple[str, ...]:
    """A row that has no plain counterpart."""
    return (*_work(cost, roof), "-", "-", "-", "-")


def _work(cost: Cost, roof: Ceilings) -> tuple[str, ...]:
    return (
        f"{cost.gflops:.3g}",
        f"{cost.mbytes:.3g}",
        "-" if cost.intensity is None else f"{cost.intensity:.3g}",
        ms(cost.time_ms.value),
        share(cost.share),
        rate(cost.gflop_per_s, roof.gflop_per_s),
        rate(cost.gb_per_s, roof.gb_per_s),
    )


def rows_of(report: BenchReport, condition: Conditions) -> list[Measurement]:
    """The measurements of one setting."""
    return [m for m in report.measurements if report.condition(m) is condition]


def headline(table: HonestyTable) -> str:
    """``model, batch 1, 1 thread: faster than ...``."""
    return f"{setting(table.batch, table.threads)}: {table.net.sentence}"


EXPLANATIONS = (
    "GFLOPs are 2 x multiply-accumulates, as papers count. MB moved sums every operator's inputs, outputs and "
    "constants in the exported graph; ops/byte and GFLOP/s count element-wise operations too, of which SRU and "
    "fuse consist. A rate may exceed its ceiling where data stay in a cache.",
    "Times come from ONNX Runtime's profiler, in runs apart from the timed ones and in turns with the plain "
    "twin; shares are of the time all operators take. SRU and CRU are shares of the block's time (in the first "
    "line: of the network's). A ratio below 1 is faster, and a verdict needs its whole 95 % interval on one side.",
)
