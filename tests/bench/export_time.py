"""How long an export takes and how much memory it needs: SCConv-ResNet-50 against the plain ResNet-50.

Every export runs in its own fresh interpreter, interleaved plain, SCConv, plain, SCConv, ..., all stages
included (verification too). Beside them, once each: the naive ``torch.onnx.export`` of the same network, and
the pipeline with recognition switched off, which shows what code that nobody recognises costs.

    python -m tests.bench.export_time [--rounds 3] [--no-naive]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from scconv_deploy.artifacts import Json, Recognition, StageTiming, TensorSpec
from scconv_deploy.bench.naive import naive_export
from scconv_deploy.config import ExportConfig, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.pipeline import run_export
from scconv_deploy.scconv import zoo
from scconv_deploy.stages import recognise
from tests.bench.machine import load_average, write_results

PLAIN, SCCONV = "resnet50", "scconv_resnet50"
NAIVE, UNRECOGNISED = "naive", "unrecognised"
SHAPE = (1, 3, 224, 224)
THREADS = 2
ROOT = Path(__file__).parents[2]
LIMITS = {"seconds": 1.6, "peak_mib": 2.5}
"""SCConv against plain, in the same run: what the project promises."""


class _Stages(Silence):
    """Keeps the seconds of every stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def finished(self, timing: StageTiming) -> None:
        self.seconds[timing.stage] = round(timing.seconds, 3)


def main() -> None:
    """Measure, write ``results/export_time.json``, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--no-naive", action="store_true", help="leave out the one-to-two-minute naive export"
    )
    parser.add_argument("--child", choices=(PLAIN, SCCONV, NAIVE, UNRECOGNISED), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        json.dump(_child(options.child), sys.stdout)
        return
    before = load_average()
    rounds = [{name: _spawn(name) for name in (PLAIN, SCCONV)} for _ in range(options.rounds)]
    extra = [UNRECOGNISED] if options.no_naive else [UNRECOGNISED, NAIVE]
    single = {name: _spawn(name) for name in extra}
    summary = _summary(rounds)
    path = write_results(
        "export_time",
        {
            "what": "seconds of run_export to ONNX at 1x3x224x224, fp32, untrained, verification included",
            "threads": THREADS,
            "load_average_before": before,
            "load_average_after": load_average(),
            "summary": summary,
            "rounds": [dict(r) for r in rounds],
            "single_runs": dict(single),
        },
    )
    for name, result in {**rounds[-1], **single}.items():
        print(f"{name:16s} {result['seconds']:>8} s  {result['peak_mib']:>8} MiB  {result['stages']}")
    print(json.dumps(summary, indent=2))
    print(path)


def _spawn(name: str) -> dict[str, Json]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.export_time", "--child", name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Json] = json.loads(done.stdout)
    result["process_seconds"] = round(time.perf_counter() - start, 3)
    print(f"{name}: {result['seconds']} s", file=sys.stderr)
    return result


def _child(name: str) -> dict[str, Json]:
    """One export in this interpreter; peak memory is the whole process's, imports included."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    module = zoo.build(PLAIN if name == PLAIN else SCCONV).eval()
    start, cpu = time.perf_counter(), time.process_time()
    stages = _naive(module) if name == NAIVE else _pipeline(module, recognised=name != UNRECOGNISED)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    # Linux gives kibibytes, macOS bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_mib": round(peak, 1),
        "stages": dict(stages),
    }


def _pipeline(module: nn.Module, *, recognised: bool) -> dict[str, float]:
    if not recognised:
        recognise.run = lambda *_, **__: Recognition((), ())
    stages = _Stages()
    with tempfile.TemporaryDirectory() as folder:
        shapes = shape_ranges(["x".join(map(str, SHAPE))])
        run_export(module, ExportConfig("onnx", out=Path(folder) / "bundle", shapes=shapes), stages)
    return stages.seconds


def _naive(module: nn.Module) -> dict[str, float]:
    start = time.perf_counter()
    naive_export(module, (TensorSpec("x", "float32", SHAPE, SHAPE, SHAPE, SHAPE),), (SHAPE[0],), 0)
    return {"torch.onnx.export": round(time.perf_counter() - start, 3)}


def _summary(rounds: list[dict[str, dict[str, Json]]]) -> dict[str, Json]:
    """Ratios SCConv / plain, taken within each round (neighbours in time), then their median."""
    found: dict[str, Json] = {}
    for quantity in ("seconds", "cpu_seconds", "peak_mib"):
        ratios = [_number(r[SCCONV][quantity]) / _number(r[PLAIN][quantity]) for r in rounds]
        found[f"{quantity}_ratio"] = round(statistics.median(ratios), 3)
        found[f"{quantity}_ratio_of_each_round"] = [round(r, 3) for r in ratios]
        if quantity in LIMITS:
            found[f"{quantity}_limit"] = LIMITS[quantity]
            found[f"{quantity}_within_limit"] = statistics.median(ratios) <= LIMITS[quantity]
    return found


def _number(value: Json) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


if __name__ == "__main__":
    main()
