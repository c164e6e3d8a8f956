"""Reports made by hand, for comparing and for showing."""

from __future__ import annotations

from dataclasses import replace

from scconv_deploy.bench.machine import identified
from scconv_deploy.bench_config import BenchConfig
from scconv_deploy.measurements import (
    SCHEMA_VERSION,
    BenchReport,
    Conditions,
    Estimate,
    HostNoise,
    Machine,
    Measurement,
    Memory,
)

QUIET = HostNoise(10.0, 0.5, 0.003, 0.0, 0.2, (2600.0, 2600.0))
BUSY = replace(
    QUIET, other_share=0.4, warnings=("other processes took 40% of the machine while it measured",)
)


def machine(cpu: str = "Some(R) Processor") -> Machine:
    return identified(
        cpu=cpu, features=("avx2", "avx512f"), cores=2, memory_gib=23.5, system="Linux x86_64", gpu=None
    )


def measurement(
    name: str, median: float, ratio: float, kind: str = "bundle", spread: float = 0.01
) -> Measurement:
    """``spread``: half the width of both intervals, relative."""
    return Measurement(
        name=name,
        subject="model.pt",
        kind=kind,
        runtime="onnxruntime",
        precision="fp32",
        batch=8,
        threads=1,
        rounds=20,
        calls=200,
        median_ms=median,
        median_interval_ms=(median * (1 - spread), median * (1 + spread)),
        mean_ms=median * 1.02,
        std_ms=median * 0.1,
        min_ms=median * 0.95,
        max_ms=median * 3,
        percentiles_ms={"50": median, "90": median * 1.1, "95": median * 1.3, "99": median * 2},
        items_per_s=8000 / median,
        against_yardstick=Estimate(ratio, ratio * (1 - spread), ratio * (1 + spread)),
        against_naive=Estimate(ratio / 1.4, ratio / 1.41, ratio / 1.39),
        load_ms=120.4,
        first_run_ms=61.2,
        warm_up_calls=9,
        settled=True,
        overhead_us=0.2,
        size_bytes=94_000_000,
        memory=Memory(60_000_000, 100 * 2**20, 210 * 2**20),
        own_process=True,
    )


def report(
    *measurements: Measurement, noise: HostNoise = QUIET, cpu: str = "Some(R) Processor"
) -> BenchReport:
    """One setting; the first measurement is the yardstick."""
    return BenchReport(
        schema_version=SCHEMA_VERSION,
        date="2026-11-22T20:00:00+00:00",
        machine=machine(cpu),
        versions={"torch": "2.13.0", "openvino": None},
        config=BenchConfig(batches=(8,)),
        measurements=measurements,
        conditions=(Conditions(8, 1, measurements[0].name, noise),),
        not_measured=("torch.compile is not measured at batch 8, 1 thread: there is no C++ compiler",),
    )


def pair(median: float = 40.0, ratio: float = 0.8, spread: float = 0.01) -> tuple[Measurement, Measurement]:
    """A yardstick of 50 ms and our bundle beside it."""
    twin = replace(measurement("plain twin", 50.0, 1.0, "plain"), against_yardstick=Estimate(1.0, 1.0, 1.0))
    return twin, measurement("ours", median, ratio, "ours", spread)
