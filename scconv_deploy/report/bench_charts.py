"""Measurements -> geometry of the benchmark page's plots; numbers only, no markup.

Times and rates span decades and are drawn on logarithmic axes with ticks at 1, 2 and 5, and so are ratios, as
bars that begin at 1. Positions are percent of a plot's width or height.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scconv_deploy.measurements import Estimate, Measurement
from scconv_deploy.profiles import BreakEven, BreakEvenPoint, HonestyTable, PlaceCost

BINS = 60
"""Columns of a latency histogram, over the axis that all backends share."""

MARGIN = 1.06
"""An axis reaches this factor beyond its outermost value."""

TICKS_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Mark:
    """A tick: where, and what is written there."""

    percent: float
    label: str


@dataclass(frozen=True, slots=True)
class LogAxis:
    """From ``low`` to ``high``, both positive."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """0 to 100; what lies outside is drawn at the edge."""
        if not value > 0:
            return 0.0
        place = math.log(value / self.low) / math.log(self.high / self.low) * 100
        return round(min(max(place, 0.0), 100.0), 2)

    @property
    def ticks(self) -> tuple[Mark, ...]:
        """At 1, 2 and 5 of each decade, or at powers of ten only where that would be too many."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1,)):
            values = [s * 10.0**e for e in range(first, last + 1) for s in steps]
            inside = [v for v in values if self.low <= v <= self.high]
            if 2 <= len(inside) <= TICKS_SHOWN + 1:
                break
        else:
            inside = inside[:: max(1, math.ceil(len(inside) / TICKS_SHOWN))]
        return tuple(Mark(self.percent(v), f"{v:g}") for v in inside)


def log_axis(values: Iterable[float]) -> LogAxis | None:
    """The axis that holds all positive finite values; None without any."""
    known = [v for v in values if math.isfinite(v) and v > 0]
    if not known:
        return None
    return LogAxis(min(known) / MARGIN, max(known) * MARGIN)


@dataclass(frozen=True, slots=True)
class Distribution:
    """One backend's latency: columns as (left, width, height) in percent, with its median, p99 and extremes."""

    name: str
    columns: tuple[tuple[float, float, float], ...]
    low: float
    high: float
    median: float
    tail: float
    median_ms: float
    tail_ms: float
    max_ms: float


def distributions(rows: Sequence[Measurement]) -> tuple[LogAxis | None, tuple[Distribution, ...]]:
    """Histograms of every timed call over one shared axis; nothing is cut off.

    Backends whose calls were not kept have no columns, only their quantiles.
    """
    axis = log_axis(v for m in rows for v in (m.min_ms, m.max_ms))
    if axis is None:
        return None, ()
    return axis, tuple(_distribution(m, axis) for m in rows)


def _distribution(m: Measurement, axis: LogAxis) -> Distribution:
    calls = [c for one in m.samples_ms or () for c in one]
    counts = [0] * BINS
    for call in calls:
        counts[min(int(axis.percent(call) / 100 * BINS), BINS - 1)] += 1
    tallest = max(counts, default=0)
    width = 100 / BINS
    columns = tuple(
        # A single slow call among thousands must be visible: heights are square roots of counts.
        (round(i * width, 2), round(width, 2), round(100 * math.sqrt(n / tallest), 1))
        for i, n in enumerate(counts)
        if n
    )
    tail = m.percentiles_ms.get("99", m.max_ms)
    return Distribution(
        m.name,
        columns,
        axis.percent(m.min_ms),
        axis.percent(m.max_ms),
        axis.percent(m.median_ms),
        axis.percent(tail),
        m.median_ms,
        tail,
        m.max_ms,
    )


@dataclass(frozen=True, slots=True)
class RatioBar:
    """A ratio and its interval; the bar reaches from 1 to the ratio."""

    name: str
    left: float
    width: float
    low: float
    high: float
    look: str
    text: str


def ratio_bars(
    named: Sequence[tuple[str, Estimate | None]],
) -> tuple[LogAxis | None, tuple[RatioBar, ...]]:
    """A bar per name that has a ratio, on an axis where half and twice the time are equally far from 1."""
    known = [(n, r) for n, r in named if r is not None and math.isfinite(r.high) and r.low > 0]
    if not known:
        return None, ()
    ends = [0.5, 2.0, *(v for _, r in known for v in (r.low, r.high))]
    axis = LogAxis(min(ends) / MARGIN, max(ends) * MARGIN)
    one = axis.percent(1.0)
    bars = []
    for name, r in known:
        end = axis.percent(r.value)
        bars.append(
            RatioBar(
                name,
                min(one, end),
                round(abs(end - one), 2),
                axis.percent(r.low),
                axis.percent(r.high),
                look(r),
                f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]",
            )
        )
    return axis, tuple(bars)


def look(ratio: Estimate | None) -> str:
    """CSS class: good below 1, bad above, plain where the interval holds 1."""
    if ratio is None or ratio.low <= 1.0 <= ratio.high:
        return "plain"
    return "gain" if ratio.value < 1.0 else "loss"


@dataclass(frozen=True, slots=True)
class TimeBar:
    """A block's time: pieces (width, class) from left to right, and the plain convolution's time beside it."""

    place: PlaceCost
    pieces: tuple[tuple[float, float, str], ...]
    plain: float | None


def time_bars(table: HonestyTable) -> tuple[TimeBar, ...]:
    """SRU, CRU and the rest of every block, on one axis with the plain convolutions."""
    values = [b.cost.time_ms.value for b in table.blocks]
    values += [b.plain_ms.value for b in table.blocks if b.plain_ms is not None]
    top = max(values, default=0.0) * MARGIN
    return tuple(_time_bar(b, top) for b in table.blocks)


def _time_bar(block: PlaceCost, top: float) -> TimeBar:
    pieces, left = [], 0.0
    rest = block.cost.time_ms.value
    for part in block.units:
        width = _share(part.time_ms.value, top)
        pieces.append((left, width, part.name.lower()))
        left, rest = round(left + width, 2), rest - part.time_ms.value
    if rest > 0 and (width := _share(rest, top)) > 0:
        pieces.append((left, width, "own-part"))
    plain = None if block.plain_ms is None else _share(block.plain_ms.value, top)
    return TimeBar(block, tuple(pieces), plain)


@dataclass(frozen=True, slots=True)
class RoofPoint:
    """One block or unit: position in percent (from the left, from the top), and what it says when asked."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Roofline:
    """Log-log: intensity to the right, rate upwards. ``roof`` is the polyline of the two ceilings."""

    x_axis: LogAxis
    y_axis: LogAxis
    roof: tuple[tuple[float, float], ...]
    ridge: float
    points: tuple[RoofPoint, ...]


def roofline(table: HonestyTable) -> Roofline | None:
    """Blocks' SRUs and CRUs (the whole block where it has one unit), and what lies outside; None without any."""
    costs = [(u, f"{b.cost.name}: {u.name}", u.name.lower()) for b in table.blocks for u in b.units]
    costs.append((table.outside, table.outside.name, "outside"))
    known = [
        (c.intensity, c.gflop_per_s, title, kind) for c, title, kind in costs if c.intensity and c.gflop_per_s
    ]
    if not known:
        return None
    roof = table.ceilings
    x_axis = log_axis([k[0] * f for k in known for f in (0.7, 1.4)] + [roof.ridge / 4, roof.ridge * 4])
    lowest = min(k[1] for k in known)
    y_axis = log_axis([lowest / 1.5, roof.gflop_per_s * 1.5, max(k[1] for k in known)])
    if x_axis is None or y_axis is None:
        return None
    corners = (
        (x_axis.low, x_axis.low * roof.gb_per_s),
        (roof.ridge, roof.gflop_per_s),
        (x_axis.high, roof.gflop_per_s),
    )
    if corners[0][1] < y_axis.low:
        corners = ((y_axis.low / roof.gb_per_s, y_axis.low), *corners[1:])
    return Roofline(
        x_axis,
        y_axis,
        tuple((x_axis.percent(x), round(100 - y_axis.percent(y), 2)) for x, y in corners),
        x_axis.percent(roof.ridge),
        tuple(
            RoofPoint(
                x_axis.percent(x),
                round(100 - y_axis.percent(y), 2),
                kind,
                f"{title}: {x:.3g} operations per byte, {y:.3g} GFLOP/s",
            )
            for x, y, title, kind in known
        ),
    )


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One size of the break-even map; a cell is a point and its class, or None where it was not measured."""

    side: int
    cells: tuple[tuple[BreakEvenPoint, str] | None, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One batch of the break-even map."""

    batch: int
    channels: tuple[int, ...]
    rows: tuple[HeatRow, ...]


def heat_maps(found: BreakEven) -> tuple[HeatMap, ...]:
    """One table per batch, sizes down, widths across, in the order measured."""
    batches = dict.fromkeys(p.batch for p in found.points)
    channels = tuple(dict.fromkeys(p.channels for p in found.points))
    sides = dict.fromkeys(p.side for p in found.points)
    cell = {(p.batch, p.side, p.channels): (p, heat(p.ratio)) for p in found.points}
    return tuple(
        HeatMap(b, channels, tuple(HeatRow(s, tuple(cell.get((b, s, c)) for c in channels)) for s in sides))
        for b in batches
    )


def heat(ratio: Estimate) -> str:
    """Class of a cell: ``even``, or ``gain``/``loss`` with a strength of 1 to 3."""
    kind = look(ratio)
    if kind == "plain" or not ratio.value > 0:
        return "even"
    distance = abs(math.log2(ratio.value))
    return f"{kind}{1 if distance < 0.2 else 2 if distance < 0.6 else 3}"


def _share(value: float, top: float) -> float:
    if not math.isfinite(value) or value <= 0 or top <= 0:
        return 0.0
    return round(min(value / top, 1.0) * 100, 2)
