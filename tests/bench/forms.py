"""The graph forms in ONNX Runtime on a wider set of networks: naive, in standard operators, fused, and the plain twin.

SCConv-ResNet-18 at 224x224, and at 640x640 the U-Net and the YOLO-style neck of ``samples/hosts``; fp32, batch 1, on
one and two threads; backends interleaved in one run, the plain twin being the yardstick. "Fused" is ``--form plugin``
with the kernels, opened as an application opens it: on blocks, every SCConv block that allows it as one node
(a measurement's ``notes`` say what was in use). What must hold is that neither of ours is slower than the naive export
(``against_naive``). About three minutes on two cores.

    python -m tests.bench.forms [--duration 1.5] [--only yolo]

Writes ``results/forms.json``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from scconv_deploy.artifacts import Json
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.benchmarking import run_benchmark
from scconv_deploy.config import shape_ranges
from scconv_deploy.report.benchmark import show_benchmark
from scconv_deploy.report.terminal import Terminal
from scconv_deploy.report.to_json import to_json
from scconv_deploy.scconv import zoo
from tests.bench import history
from tests.bench.machine import RESULTS, load_average, write_results

ROOT = Path(__file__).parents[2]
HOSTS = ROOT / "samples" / "hosts"
NAIVE, OURS, FUSED, PLAIN = BackendKind.NAIVE, BackendKind.OURS, BackendKind.PLUGIN, BackendKind.PLAIN


def _host(name: str) -> Callable[[], nn.Module]:
    """A sample network's ``build``."""

    def build() -> nn.Module:
        place = importlib.util.spec_from_file_location(name, HOSTS / f"{name}.py")
        assert place is not None
        assert place.loader is not None
        module = importlib.util.module_from_spec(place)
        sys.modules[name] = module  # copying its classes asks for their module
        place.loader.exec_module(module)
        made: nn.Module = module.build()
        return made

    return build


def _resnet18() -> nn.Module:
    torch.manual_seed(0)
    return zoo.build("scconv_resnet18").eval()


@dataclass(frozen=True, slots=True)
class Network:
    """What is measured, and at which input shape."""

    name: str
    build: Callable[[], nn.Module]
    shape: str


NETWORKS = (
    Network("resnet18_224x224", _resnet18, "1x3x224x224"),
    Network("unet_640x640", _host("unet_f2"), "1x1x640x640"),
    Network("yolo_neck_640x640", _host("yolo_neck_f1"), "1x3x640x640"),
)


def measure(network: Network, duration_s: float, out: Console) -> Json:
    """One report of scconv-bench."""
    config = BenchConfig(
        (1,),
        (1, 2),
        duration_s=duration_s,
        iterations=10,
        shapes=shape_ranges([network.shape]),
        backends=(PLAIN, FUSED, OURS, NAIVE),
        explain=False,
    )
    with Terminal() as listener:
        report = run_benchmark((network.build(),), config, listener)
    show_benchmark(out, report)
    return to_json(report)


def main() -> None:
    """Measure, write, print the tables."""
    os.chdir(ROOT)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=1.5, help="seconds per backend and setting")
    parser.add_argument("--only", help="networks whose name holds this; the others keep their results")
    options = parser.parse_args()
    before = load_average()
    out = Console(width=100)
    file = RESULTS / "forms.json"
    stored = json.loads(file.read_text(encoding="utf-8")) if options.only and file.exists() else {}
    reports: dict[str, Json] = {n.name: stored[n.name] for n in NETWORKS if n.name in stored}
    for network in NETWORKS:
        if options.only and options.only not in network.name:
            continue
        out.print(f"\n{network.name}", style="bold")
        reports[network.name] = measure(network, options.duration, out)
    path = write_results(
        "forms",
        {
            "what": "one report of scconv-bench per network: milliseconds per call, fp32, batch 1, ONNX Runtime; "
            "against_yardstick is the median over interleaved rounds of the time over the plain twin's, against_naive "
            "that over the naive export's, each with its 95 % bootstrap interval",
            "commit": history.commit(),
            "load_average_before": before,
            "load_average_after": load_average(),
            **reports,
        },
    )
    print(path)


if __name__ == "__main__":
    main()
