"""Profiles, graph costs and ceilings -> the honesty table: what every block costs, takes, and why.

The ratio of a block is its time over the time of the plain convolution in its place, run by run of profiles
taken in turns; its interval decides the verdict. A network's verdict is the timed measurement's where there is
one (:mod:`scconv_deploy.stages.benchmark`). Counted operations explain, they never judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from scconv_deploy.bench.attribution import exported_names, place, unit
from scconv_deploy.bench.cost import GraphCost
from scconv_deploy.bench.profile import Profile
from scconv_deploy.bench.rounds import Samples
from scconv_deploy.bench.statistics import ratio, summarise
from scconv_deploy.bench.stopwatch import WarmUp
from scconv_deploy.bench.verdict import block_sentence, net_sentence
from scconv_deploy.measurements import Estimate
from scconv_deploy.profiles import (
    NET,
    OUTSIDE,
    UNATTRIBUTED,
    Bound,
    Ceilings,
    Cost,
    HonestyTable,
    PlaceCost,
    Work,
    standing,
)

OVERHEAD = 0.1
"""An operator that reaches less than a tenth of both ceilings is held up by neither."""

UNITS = ("SRU", "CRU")
ROOT = "(root)"


@dataclass(frozen=True, slots=True)
class Side:
    """One profiled model. ``exported`` is its graph before the runtime optimised it."""

    exported: onnx.ModelProto
    profile: Profile
    cost: GraphCost


@dataclass(frozen=True, slots=True)
class Subject:
    """What is taken apart.

    ``paths`` are its SCConv blocks; ``beside`` names modules that stand there for a block's sake (the pooling
    that gives it its stride) and count with it; ``plain`` says what the twin has in each place.
    """

    name: str
    subject: str
    batch: int
    threads: int
    paths: tuple[str, ...]
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plain: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds per run of every place and unit: ``by_place[path]``, ``by_unit[path][unit]``."""

    by_place: Mapping[str, np.ndarray]
    by_unit: Mapping[str, Mapping[str, np.ndarray]]
    total: np.ndarray


def honesty_table(
    subject: Subject,
    side: Side,
    twin: Side | None,
    ceilings: Ceilings,
    seed: int,
    timed: Estimate | None = None,
) -> HonestyTable:
    """Put the table together.

    Args:
        subject: names and places.
        side: the model's profile and cost.
        twin: the plain twin's, profiled in the same turns; None where there is none.
        ceilings: of this machine with as many threads.
        seed: of the intervals' bootstrap.
        timed: ratio of the whole network to its plain twin from the timed measurement.
    """
    times = attribute(side, subject)
    plain = None if twin is None else attribute(twin, subject)
    maker = _Maker.of(ceilings, times, seed)
    works = _works(side, subject)
    blocks = tuple(_block(maker, subject, path, times, works, plain) for path in subject.paths)
    net = _net(maker, subject, times, side.cost.total, works, plain, timed)
    nothing = np.zeros_like(times.total)
    return HonestyTable(
        name=subject.name,
        subject=subject.subject,
        batch=subject.batch,
        threads=subject.threads,
        runs=len(times.total),
        ceilings=ceilings,
        net=net,
        blocks=blocks,
        outside=maker.cost(OUTSIDE, works[OUTSIDE], [times.by_place.get(OUTSIDE, nothing)]),
        unattributed=maker.cost(UNATTRIBUTED, Work(), [times.by_place.get(UNATTRIBUTED, nothing)]),
        profiler_us=side.profile.profiler_us,
        notes=(*_notes(side), *_busy(blocks, ceilings)),
    )


def attribute(side: Side, subject: Subject) -> Times:
    """Every profiled node's time to its place; what has none to :data:`~scconv_deploy.profiles.UNATTRIBUTED`."""
    names = exported_names(side.profile.graph, side.exported)
    runs = side.profile.runs
    by_place: dict[str, np.ndarray] = {}
    by_unit: dict[str, dict[str, np.ndarray]] = {p: {} for p in subject.paths}
    for node, per_run in side.profile.nodes.items():
        origin = names.get(node)
        where = UNATTRIBUTED if origin is None else locate(origin, subject)
        by_place[where] = by_place.get(where, np.zeros(runs)) + per_run
        inside = unit(origin, where) if origin is not None and where in by_unit else None
        if inside is not None:
            by_unit[where][inside] = by_unit[where].get(inside, np.zeros(runs)) + per_run
    return Times(by_place, by_unit, sum(side.profile.nodes.values(), np.zeros(runs)))


def locate(node: str, subject: Subject) -> str:
    """The block an exported node lies in or stands for, or outside."""
    found = place(node, subject.paths)
    if found is not None:
        return found
    beside = {scope: path for path, scopes in subject.beside.items() for scope in scopes}
    neighbour = place(node, tuple(beside))
    return OUTSIDE if neighbour is None else beside[neighbour]


def _works(side: Side, subject: Subject) -> dict[str, Work]:
    """Work by place, and by place and unit as ``path/SRU``."""
    works = {p: Work() for p in (*subject.paths, OUTSIDE)}
    for node, work in side.cost.nodes.items():
        where = locate(node, subject)
        works[where] = works[where] + work
        inside = unit(node, where) if where != OUTSIDE else None
        if inside is not None:
            key = f"{where}/{inside}"
            works[key] = works.get(key, Work()) + work
    return works


def _block(
    maker: _Maker, subject: Subject, path: str, times: Times, works: Mapping[str, Work], plain: Times | None
) -> PlaceCost:
    nothing = np.zeros_like(times.total)
    taken = times.by_place.get(path, nothing)
    units = tuple(
        maker.cost(u, works.get(f"{path}/{u}", Work()), [times.by_unit[path].get(u, nothing)], taken)
        for u in UNITS
        if f"{path}/{u}" in works
    )
    cost = maker.cost(path or ROOT, works[path], [taken])
    twin = None if plain is None else plain.by_place.get(path, nothing)
    against = None if twin is None else maker.against(taken, twin)
    plain_ms = None if twin is None else maker.milliseconds([twin])
    words = subject.plain.get(path)
    return PlaceCost(
        cost, units, words, plain_ms, against, standing(against), block_sentence(against, units, plain_ms)
    )


def _net(
    maker: _Maker,
    subject: Subject,
    times: Times,
    work: Work,
    works: Mapping[str, Work],
    plain: Times | None,
    timed: Estimate | None,
) -> PlaceCost:
    nothing = np.zeros_like(times.total)
    units = []
    for name in UNITS:
        parts = [times.by_unit[p][name] for p in subject.paths if name in times.by_unit[p]]
        done = sum((works.get(f"{p}/{name}", Work()) for p in subject.paths), Work())
        if done.bytes_moved or parts:
            units.append(maker.cost(name, done, parts or [nothing]))
    cost = maker.cost(NET, work, list(times.by_place.values()) or [nothing])
    plain_ms = against = places_ms = None
    if plain is not None:
        plain_ms = maker.milliseconds(list(plain.by_place.values()))
        against = timed or maker.against(times.total, plain.total)
        places_ms = maker.milliseconds([plain.by_place.get(p, nothing) for p in subject.paths])
    sentence = net_sentence(against, tuple(units), places_ms)
    return PlaceCost(cost, tuple(units), None, plain_ms, against, standing(against), sentence)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Turns times and work into figures; a division by nothing gives None.

    The time of several places is the sum of their medians, not the median of their sums: on a busy machine
    something is interrupted in nearly every run, but hardly ever the same place.
    """

    ceilings: Ceilings
    total_ms: float
    seed: int

    @classmethod
    def of(cls, ceilings: Ceilings, times: Times, seed: int) -> _Maker:
        """Shares are of the sum over all places, so that they sum to 1."""
        return cls(ceilings, sum(float(np.median(v)) for v in times.by_place.values()) / 1000, seed)

    def cost(self, name: str, work: Work, us: Sequence[np.ndarray], block: np.ndarray | None = None) -> Cost:
        time = self.milliseconds(us)
        seconds = time.value / 1000
        rate = work.operations / seconds / 1e9 if seconds > 0 else None
        moved = work.bytes_moved / seconds / 1e9 if seconds > 0 else None
        whole = float(np.median(block)) / 1000 if block is not None else 0.0
        return Cost(
            name=name,
            gflops=2 * work.macs / 1e9,
            elementwise_gflops=work.elementwise / 1e9,
            mbytes=work.bytes_moved / 1e6,
            intensity=work.operations / work.bytes_moved if work.bytes_moved else None,
            bound=self._bound(rate, moved),
            time_ms=time,
            share=time.value / self.total_ms if self.total_ms > 0 else 0.0,
            share_of_block=time.value / whole if whole > 0 else None,
            gflop_per_s=rate,
            gb_per_s=moved,
        )

    def milliseconds(self, us: Sequence[np.ndarray]) -> Estimate:
        """Sum of the medians over runs, with the sum of their intervals."""
        value = low = high = 0.0
        for one in us:
            found = summarise(_samples(one), (50.0,), self.seed)
            value, low = value + found.median_ms, low + found.median_interval_ms[0]
            high += found.median_interval_ms[1]
        return Estimate(value, low, high)

    def against(self, us: np.ndarray, plain: np.ndarray) -> Estimate | None:
        """Run by run; None where nothing stands in the plain place."""
        runs = min(len(us), len(plain))
        if not runs or not np.median(plain) > 0:
            return None
        return ratio(_samples(us[:runs]), _samples(plain[:runs]), self.seed)

    def _bound(self, rate: float | None, moved: float | None) -> Bound | None:
        """By the ceiling it comes closer to, which is the same as by its intensity; see OVERHEAD."""
        if not rate and not moved:
            return None
        arithmetic = (rate or 0.0) / self.ceilings.gflop_per_s
        memory = (moved or 0.0) / self.ceilings.gb_per_s
        if max(arithmetic, memory) < OVERHEAD:
            return Bound.OVERHEAD
        return Bound.MEMORY if memory >= arithmetic else Bound.COMPUTE


def _samples(us: np.ndarray) -> Samples:
    """One round per run."""
    return Samples("", tuple(np.array([v * 1000.0]) for v in us), WarmUp(0, 1.0, True))


def _notes(side: Side) -> tuple[str, ...]:
    unknown = side.cost.unknown
    if not unknown:
        return ()
    return (
        f"the shapes of {len(unknown)} operators are not known before running ({unknown[0]}, ...): what they "
        "compute and move is counted too low",
    )


def _busy(blocks: Sequence[PlaceCost], ceilings: Ceilings) -> tuple[str, ...]:
    rates = [u.gflop_per_s or 0.0 for b in blocks for u in b.units]
    if max(rates, default=0.0) <= ceilings.gflop_per_s:
        return ()
    return (
        f"a block computes {max(rates):.0f} GFLOP/s, more than the ceiling measured: the machine was busy while its "
        "ceilings were measured, or its clock has changed",
    )


def with_notes(table: HonestyTable, notes: Sequence[str]) -> HonestyTable:
    """The table with further notes."""
    return replace(table, notes=(*table.notes, *notes))
