"""Numbers -> geometry: positions in percent of a plot's width or height, which the template draws as SVG.

Errors and rates span many powers of ten, so they share a logarithmic :class:`Scale`; counts and seconds start
at zero and use :func:`share`. Nothing here knows about markup, and nothing but numbers leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scconv_deploy.report.manifest import Section

DECADES_SHOWN = 10
"""A plot never spans more powers of ten than this; smaller values get the shortest bar."""

LABELS_SHOWN = 6
BOUNDS_SHOWN = 5
"""So many of a histogram's bounds are written below it."""

SHORTEST = 0.8
"""Percent of the width given to a positive value too small to be seen."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One grid line: position in percent, the power of ten, and whether it carries a label."""

    percent: float
    exponent: int
    labelled: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic axis from ``10**low`` to ``10**high``."""

    low: int
    high: int

    def percent(self, value: float | None) -> float | None:
        """Position of ``value`` on the axis, 0 to 100; None where there is no value.

        What is not finite fills the plot: it must look like the worst, not like nothing.
        """
        if value is None:
            return None
        if not math.isfinite(value):
            return 100.0
        if value <= 0:
            return 0.0
        place = (math.log10(value) - self.low) / (self.high - self.low) * 100
        return round(min(max(place, SHORTEST), 100.0), 2)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """One per power of ten; about ``LABELS_SHOWN`` of them are labelled."""
        span = self.high - self.low
        every = max(1, math.ceil(span / LABELS_SHOWN))
        return tuple(
            Tick(round((e - self.low) / span * 100, 2), e, (e - self.low) % every == 0)
            for e in range(self.low, self.high + 1)
        )


def scale(values: Iterable[float | None]) -> Scale | None:
    """The axis that holds all finite positive ``values``, in whole powers of ten; None without any."""
    known = [v for v in values if v is not None and math.isfinite(v) and v > 0]
    if not known:
        return None
    high = math.ceil(math.log10(max(known)) + 1e-9)
    low = min(math.floor(math.log10(min(known)) - 1e-9), high - 1)
    return Scale(max(low, high - DECADES_SHOWN), high)


def share(value: float | None, largest: float) -> float:
    """Percent of ``largest``, for bars that start at zero."""
    if value is None or not math.isfinite(value) or value <= 0 or largest <= 0:
        return 0.0
    return round(min(value / largest, 1.0) * 100, 2)


@dataclass(frozen=True, slots=True)
class Column:
    """One bin of a gate-margin histogram: gates behind, flips before, heights in percent.

    ``labelled``: its upper bound is written below its right edge.
    """

    below: float | None
    gates: int
    flips: int
    gates_percent: float
    flips_percent: float
    labelled: bool


@dataclass(frozen=True, slots=True)
class Histogram:
    """How far one block's gates lie from the threshold, on a logarithmic count axis."""

    block: str
    columns: tuple[Column, ...]
    band_column: float | None
    """Where the rounding band ends, in columns from the left; None where the band is unknown."""


def histogram(block: str, gate: Section, tallest: int) -> Histogram:
    """The columns of ``gate``'s histogram; ``tallest`` is the largest count of all blocks shown together."""
    bins = gate.sections("histogram")
    every = max(1, math.ceil(len(bins) / BOUNDS_SHOWN))
    columns = tuple(
        Column(
            below=item.number("below"),
            gates=(gates := count(item.number("gates"))),
            flips=(flips := count(item.number("flips"))),
            gates_percent=_height(gates, tallest),
            flips_percent=_height(flips, tallest),
            labelled=index < len(bins) - 1 and index % every == 0,
        )
        for index, item in enumerate(bins)
    )
    return Histogram(block, columns, _band(gate.number("band"), [c.below for c in columns]))


def tallest(gates: Iterable[Section]) -> int:
    """The largest count in any bin of any histogram."""
    counts = (count(b.number("gates")) for gate in gates for b in gate.sections("histogram"))
    return max(counts, default=0)


def count(value: float | None) -> int:
    """A count as an integer; what is missing or not finite counts as 0."""
    return int(value) if value is not None and math.isfinite(value) and value > 0 else 0


def _height(number: int, largest: int) -> float:
    """One flip among a million gates must be visible, so counts are drawn as log(1 + n)."""
    return round(math.log1p(number) / math.log1p(largest) * 100, 2) if largest else 0.0


def _band(band: float | None, edges: Sequence[float | None]) -> float | None:
    """Position of ``band`` between the bins' edges, interpolated on the logarithmic axis."""
    if band is None or not math.isfinite(band) or band <= 0:
        return None
    lower: float | None = None
    for index, edge in enumerate(edges):
        if edge is None or edge <= 0:
            return None
        if band <= edge:
            if lower is None or not math.isfinite(edge):
                return float(index + 1 if band == edge else index)
            return round(index + math.log(band / lower) / math.log(edge / lower), 3)
        lower = edge
    return float(len(edges)) if edges else None
