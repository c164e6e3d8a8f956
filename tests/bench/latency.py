"""How fast the exported networks run: our bundle (standard and fused operators), its twin, naive, PyTorch.

Three networks, each interleaved in one run at batch 1 and 8 and on 1 and 2 threads; the yardstick is the plain
twin, exported as ours is: SCConv-ResNet-50 and SCConv-ResNet-18 (224x224, untrained, F3 blocks), and the trained
``samples/digits/model.pt``. torch.compile takes half a minute of compiling in each setting, so it is measured on
the last one only, at batch 1 on one thread.

    python -m tests.bench.latency [--duration 2] [--only digits]

Writes ``results/latency.json`` (whole reports) and appends one line per network to ``results/history.jsonl``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from scconv_deploy.artifacts import Json
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.benchmarking import run_benchmark
from scconv_deploy.config import ShapeRange, shape_ranges
from scconv_deploy.report.benchmark import show_benchmark
from scconv_deploy.report.terminal import Terminal
from scconv_deploy.report.to_json import to_json
from scconv_deploy.scconv import zoo
from tests.bench import history
from tests.bench.machine import RESULTS, load_average, write_results

IMAGENET = shape_ranges(["1x3x224x224"])
ROOT = Path(__file__).parents[2]
DIGITS = "samples/digits/model.pt"
"""Relative: a subject's path is written into the results, which name no machine's folders."""
PLAIN, OURS, FUSED, NAIVE, EAGER, COMPILE = (
    BackendKind.PLAIN,
    BackendKind.OURS,
    BackendKind.PLUGIN,
    BackendKind.NAIVE,
    BackendKind.EAGER,
    BackendKind.COMPILE,
)


@dataclass(frozen=True, slots=True)
class Network:
    """What is measured, and as what."""

    name: str
    subject: Callable[[], str | nn.Module]
    shapes: tuple[ShapeRange, ...]
    backends: tuple[BackendKind, ...]
    batches: tuple[int, ...] = (1, 8)
    threads: tuple[int, ...] = (1, 2)


def _untrained(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return zoo.build(name).eval()

    return build


NETWORKS = (
    Network("resnet50_224x224", _untrained("scconv_resnet50"), IMAGENET, (PLAIN, OURS, FUSED, NAIVE, EAGER)),
    Network("resnet18_224x224", _untrained("scconv_resnet18"), IMAGENET, (PLAIN, OURS, FUSED, NAIVE, EAGER)),
    Network("digits_8x8", lambda: DIGITS, (), (PLAIN, OURS, FUSED, NAIVE, EAGER)),
    Network("digits_8x8_compiled", lambda: DIGITS, (), (PLAIN, OURS, EAGER, COMPILE), (1,), (1,)),
)


def main() -> None:
    """Measure, write, print the tables and what changed since the last run on this machine."""
    os.chdir(ROOT)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=1.5, help="seconds per backend and setting")
    parser.add_argument("--only", help="networks whose name holds this; latency.json is then not written")
    options = parser.parse_args()
    before = load_average()
    commit = history.commit()
    reports: dict[str, Json] = {}
    out = Console(width=100)
    for network in NETWORKS:
        if options.only and options.only not in network.name:
            continue
        config = BenchConfig(
            network.batches,
            network.threads,
            duration_s=options.duration,
            iterations=10,
            shapes=network.shapes,
            backends=network.backends,
        )
        out.print(f"\n{network.name}", style="bold")
        with Terminal() as listener:
            report = run_benchmark((network.subject(),), config, listener)
        show_benchmark(out, report)
        line = history.record(network.name, report, commit)
        if (last := history.last_like(RESULTS / "history.jsonl", line)) is not None:
            out.print("\n".join(history.changes(last, line)))
        reports[network.name] = to_json(report)
        if not options.only:
            history.append(RESULTS / "history.jsonl", line)
    if options.only:
        return
    path = write_results(
        "latency",
        {
            "what": "one report of scconv-bench per network: milliseconds per call, fp32, ONNX Runtime on CPU unless "
            "the name says otherwise; against_yardstick is the median over interleaved rounds of the time over the "
            "plain twin's, with its 95 % bootstrap interval",
            "commit": commit,
            "load_average_before": before,
            "load_average_after": load_average(),
            **reports,
        },
    )
    print(path)


if __name__ == "__main__":
    main()
