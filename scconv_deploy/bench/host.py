"""Two readings of the machine's own counters -> :class:`HostNoise`: what else ran while we measured.

A busy machine does not make a measurement wrong, it makes it somebody else's; so the reader is told.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from scconv_deploy.measurements import HostNoise

BUSY = 0.05
"""Share of all cores' time that other processes may take before a warning: one core of twenty."""

STOLEN = 0.01
SHIFT = 0.05
"""Relative difference between the highest and lowest clock seen."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds since some start: wall clock; and core seconds of all, busy (stolen not counted), stolen, ours."""

    wall: float
    total: float
    busy: float
    stolen: float | None
    own: float


def read(pids: Sequence[int]) -> Reading:
    """The counters now. ``pids`` are our workers; this process counts as ours too."""
    times = psutil.cpu_times()
    stolen = getattr(times, "steal", None)
    # The kernel counts guests in user time already.
    parts = {k: v for k, v in times._asdict().items() if k not in ("guest", "guest_nice")}
    idle = parts.get("idle", 0.0) + parts.get("iowait", 0.0)
    total = sum(parts.values())
    own = sum(_cpu_seconds(pid) for pid in (os.getpid(), *pids))
    return Reading(time.monotonic(), total, total - idle - (stolen or 0.0), stolen, own)


def frequency() -> float | None:
    """MHz of the cores now, where the system tells."""
    try:
        found = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        return None
    return float(found.current) if found and found.current else None


def load_average() -> float | None:
    """Over the last minute."""
    try:
        return round(float(psutil.getloadavg()[0]), 2)
    except (OSError, AttributeError):
        return None


class NoiseMeter:
    """From construction to ``stop``; ``sample`` between turns looks at the clock frequency.

    Args:
        pids: our workers.
        reader, clocks: tests inject their own.
    """

    def __init__(
        self,
        pids: Sequence[int],
        reader: Callable[[Sequence[int]], Reading] = read,
        clocks: Callable[[], float | None] = frequency,
    ) -> None:
        self._pids, self._reader, self._clocks = tuple(pids), reader, clocks
        self._load = load_average()
        self._seen: list[float] = []
        self.sample()
        self._start = reader(self._pids)

    def sample(self) -> None:
        """Note the present clock frequency."""
        mhz = self._clocks()
        if mhz is not None:
            self._seen.append(mhz)

    def stop(self) -> HostNoise:
        """What happened since the start."""
        self.sample()
        return noise(self._start, self._reader(self._pids), self._seen, self._load)


def noise(before: Reading, after: Reading, mhz: Sequence[float], load: float | None) -> HostNoise:
    """Differences of the counters as shares, with a sentence for each that is too large."""
    total = max(after.total - before.total, 1e-9)
    own = after.own - before.own
    other = max(0.0, after.busy - before.busy - own) / total
    steal = None
    if after.stolen is not None and before.stolen is not None:
        steal = (after.stolen - before.stolen) / total
    span = (min(mhz), max(mhz)) if mhz else None
    warnings = []
    if other > BUSY:
        warnings.append(f"other processes took {other:.0%} of the machine while it measured")
    if steal is not None and steal > STOLEN:
        warnings.append(f"{steal:.1%} of the machine's time was stolen by other virtual machines")
    if span and span[1] > span[0] * (1 + SHIFT):
        warnings.append(f"the processor's clock moved between {span[0]:.0f} and {span[1]:.0f} MHz")
    seconds = after.wall - before.wall
    return HostNoise(seconds, own / total, other, steal, load, span, tuple(warnings))


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0
