"""The vocabulary of ``scconv-bench``: what was measured, on which machine, and how it stands to a baseline.

A :class:`BenchReport` is what the command returns, prints and stores; its JSON form is ``to_json(report)`` and
carries ``schema_version``. Imports neither torch nor onnx. Times are milliseconds per call unless a name says
otherwise; nothing is clipped or smoothed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scconv_deploy.bench_config import BenchConfig

if TYPE_CHECKING:
    from scconv_deploy.profiles import BreakEven, HonestyTable

SCHEMA_VERSION = 1
"""Of the JSON; raised whenever a reader of the old form would misread the new one."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval (percentile bootstrap over rounds)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a backend's own process. ``base_bytes``: its runtime imported, no model open.

    ``loaded_bytes`` (model open) and ``peak_bytes`` (the highest so far: loading, first run and all calls) are
    *above* the base.
    """

    base_bytes: int
    loaded_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class GpuTimes:
    """Device time of one backend by CUDA events, apart from its transfers (medians, milliseconds per call).

    ``graph_ms`` is the same work replayed as a CUDA graph, None where it cannot be captured (``graph_refusal``
    says why). ``throttle`` names the reasons the driver gave for lowering the clocks while it ran.
    """

    device_ms: float
    device_percentiles_ms: Mapping[str, float]
    to_device_ms: float
    from_device_ms: float
    graph_ms: float | None
    graph_refusal: str | None
    sm_clock_mhz: tuple[int, int] | None
    memory_clock_mhz: tuple[int, int] | None
    throttle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measurement:
    """One backend in one setting (batch and threads).

    ``name`` is how it is listed, ``subject`` what the user named, ``kind`` one of ``eager``, ``compile``,
    ``naive``, ``plain``, ``ours``, ``bundle``, ``onnx``. ``percentiles_ms`` is keyed by the percentile
    (``"99"``), ``median_interval_ms`` the median's 95 % interval. ``against_yardstick`` and ``against_naive``
    are ratios of times, below 1 where this backend is faster; None where there is nothing to compare with.
    ``settled`` is False where the warm-up ended by its bound and not because the calls had stopped getting
    faster. ``overhead_us`` is what timing adds to each call. ``size_bytes`` is the model's files on disk.
    """

    name: str
    subject: str
    kind: str
    runtime: str
    precision: str
    batch: int
    threads: int
    rounds: int
    calls: int
    median_ms: float
    median_interval_ms: tuple[float, float]
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    percentiles_ms: Mapping[str, float]
    items_per_s: float
    against_yardstick: Estimate | None
    against_naive: Estimate | None
    load_ms: float
    first_run_ms: float
    warm_up_calls: int
    settled: bool
    overhead_us: float
    size_bytes: int | None
    memory: Memory | None
    own_process: bool
    gpu: GpuTimes | None = None
    samples_ms: tuple[tuple[float, ...], ...] | None = None
    """Every call, round by round, with ``--raw``."""
    notes: tuple[str, ...] = ()
    """What the runtime says of the open model: the layout its fused nodes work in, for one."""


@dataclass(frozen=True, slots=True)
class HostNoise:
    """What else the machine did while one setting was measured; shares are of all cores' time.

    ``steal_share`` went to other virtual machines, ``other_share`` to processes that are not ours.
    ``warnings`` are sentences; an empty tuple means that the machine was quiet.
    """

    seconds: float
    own_share: float
    other_share: float
    steal_share: float | None
    load_average_before: float | None
    frequency_mhz: tuple[float, float] | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """One setting: what its ratios refer to, and how quiet the machine was."""

    batch: int
    threads: int
    yardstick: str
    noise: HostNoise


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware. Times of equal fingerprints may be compared; versions of software are kept apart."""

    fingerprint: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    memory_gib: float
    system: str
    gpu: str | None


@dataclass(frozen=True, slots=True)
class BaselineCheck:
    """One quantity of one measurement, then and now. ``change`` is relative: 0.05 is 5 % slower."""

    name: str
    batch: int
    threads: int
    quantity: str
    before: Estimate
    now: Estimate
    change: float
    is_slower: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class BaselineReport:
    """This run against a stored one. ``slower`` are the sentences for which the command exits with 1."""

    file: str
    same_machine: bool
    limit: float | None
    checks: tuple[BaselineCheck, ...]
    slower: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything one ``scconv-bench`` found. ``not_measured`` has one sentence per backend left out.

    ``honesty`` takes each bundle apart in each setting; ``break_even`` is there with ``--break-even``, and alone
    where no subject was named.
    """

    schema_version: int
    date: str
    machine: Machine
    versions: Mapping[str, str | None]
    config: BenchConfig
    measurements: tuple[Measurement, ...]
    conditions: tuple[Conditions, ...]
    not_measured: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    baseline: BaselineReport | None = None
    honesty: tuple[HonestyTable, ...] = ()
    break_even: BreakEven | None = None

    def condition(self, measurement: Measurement) -> Conditions:
        """The setting that ``measurement`` was taken in."""
        found = (measurement.batch, measurement.threads)
        return next(c for c in self.conditions if (c.batch, c.threads) == found)
