"""How fast the exported networks run: our bundle, the naive export, PyTorch eager and the plain network.

Two comparisons, each interleaved in one run at batch 1 and 8 and on 1 and 2 threads:

* 224x224: the plain ResNet-50 (the yardstick: what SCConv replaces), our SCConv-ResNet-50 bundle, the naive
  export of the same network, and PyTorch eager; untrained weights, F3 blocks;
* digits: our bundle of ``samples/digits/model.pt`` (the yardstick is its PyTorch eager).

    python -m tests.bench.latency [--duration 2]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from scconv_deploy.artifacts import Json, Timing
from scconv_deploy.config import BenchConfig, ExportConfig, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.pipeline import run_benchmark, run_export
from scconv_deploy.report.summary import show_timings
from scconv_deploy.scconv import zoo
from tests.bench.machine import load_average, write_results

IMAGENET = shape_ranges(["1x3x224x224"])
DIGITS = Path(__file__).parents[2] / "samples" / "digits" / "model.pt"


class _Notes(Silence):
    """Keeps what was not measured, and why."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def main() -> None:
    """Measure, write ``results/latency.json``, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=2.0, help="seconds per backend and combination")
    options = parser.parse_args()
    before = load_average()
    with tempfile.TemporaryDirectory() as folder:
        resnet50 = _resnet50(Path(folder), options.duration)
        digits = _digits(Path(folder), options.duration)
    path = write_results(
        "latency",
        {
            "what": "milliseconds per call, fp32, ONNX Runtime on CPU unless the name says otherwise; "
            "ratio to the yardstick = median over interleaved rounds, with its 95 % bootstrap interval",
            "load_average_before": before,
            "load_average_after": load_average(),
            "resnet50_224x224": resnet50,
            "digits_8x8": digits,
        },
    )
    print(path)


def _resnet50(folder: Path, duration: float) -> dict[str, Json]:
    torch.manual_seed(0)
    network = zoo.build("scconv_resnet50").eval()
    plain = _bundle(zoo.build("resnet50").eval(), folder / "plain resnet50")
    ours = _bundle(network, folder / "scconv_resnet50")
    config = BenchConfig((1, 8), (1, 2), duration_s=duration, iterations=10, shapes=IMAGENET)
    return _measured((plain, ours, network), config)


def _digits(folder: Path, duration: float) -> dict[str, Json]:
    config = BenchConfig((1, 8), (1, 2), duration_s=duration, iterations=10)
    ours = run_export(DIGITS, ExportConfig("onnx", out=folder / "digits"), Silence()).path
    return _measured((str(DIGITS), str(ours)), config)


def _bundle(module: nn.Module, out: Path) -> str:
    return str(run_export(module, ExportConfig("onnx", out=out, shapes=IMAGENET), Silence()).path)


def _measured(subjects: Sequence[str | nn.Module], config: BenchConfig) -> dict[str, Json]:
    heard = _Notes()
    timings: tuple[Timing, ...] = run_benchmark(subjects, config, heard)
    show_timings(Console(width=110), timings)
    return {
        "yardstick": timings[0].name,
        "timings": [dict(asdict(t)) for t in timings],
        "not_measured": list(heard.notes),
    }


if __name__ == "__main__":
    main()
