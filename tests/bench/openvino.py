"""How fast SCConv-ResNet-50 runs in OpenVINO: standard and fused form against the plain ResNet-50 and naive export.

All through their bundles as an application opens them, interleaved, at batch 1 and 8 on 2 threads, in fp32 and
bf16; untrained weights, F3 blocks (soft gate, joint softmax). ``naive`` is torch's own export read by OpenVINO:
in bf16 with OpenVINO's inference precision bf16, which is what its user would ask for.

    python -m tests.bench.openvino [--duration 4] [--folder KEPT [--prepare]]

Writes ``results/openvino.json``; some three minutes, most of it exporting and compiling.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import openvino as ov
import torch

from scconv_deploy import api
from scconv_deploy.artifacts import Json
from scconv_deploy.bench.naive import naive_export
from scconv_deploy.config import Form
from scconv_deploy.inputs import settle
from scconv_deploy.runtime.openvino import OpenVINORunner, version
from scconv_deploy.scconv import zoo
from tests.bench import history
from tests.bench.machine import load_average, write_results

SETTINGS = ((1, 2), (8, 2))
SHAPE = (3, 224, 224)
PLAIN, NAIVE, STANDARD, FUSED = "plain ResNet-50", "naive export", "standard form", "fused kernels"


def bundle(name: str, precision: str, form: Form, folder: Path) -> Path:
    """Export a network of the zoo; figures need no proof, the tests have it."""
    torch.manual_seed(0)
    out = folder / f"{name}-{precision}-{form.value}"
    if out.is_dir():
        return out / "model.xml"
    made = api.export(
        zoo.build(name).eval(),
        torch.zeros(2, *SHAPE),
        "openvino",
        precision,
        out,
        form=form,
        verify=False,
    )
    return made.artifact


def naive(folder: Path) -> Path:
    """What torch's exporter makes of the network, as OpenVINO reads it."""
    if (folder / "naive.xml").is_file():
        return folder / "naive.xml"
    torch.manual_seed(0)
    net = zoo.build("scconv_resnet50").eval()
    inputs = settle(net, (), (), (torch.zeros(2, *SHAPE),), True)
    model = ov.Core().read_model(naive_export(net, inputs, (1, 8), 0))
    ov.save_model(model, folder / "naive.xml", compress_to_fp16=False)
    return folder / "naive.xml"


def measure(runners: dict[str, OpenVINORunner], batch: int, seconds: float) -> dict[str, Json]:
    """Interleaved calls; milliseconds (median) and the median and the least of the ratios to plain."""
    image = np.random.default_rng(0).standard_normal((batch, *SHAPE)).astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(2):
        for runner in runners.values():
            runner.run({runner.input_names[0]: image})
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, runner in runners.items():
            start = time.perf_counter()
            runner.run({runner.input_names[0]: image})
            times[name].append((time.perf_counter() - start) * 1e3)
    found: dict[str, Json] = {}
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(taken, times[PLAIN], strict=True)]
        found[name] = {
            "median_ms": round(statistics.median(taken), 2),
            "against_plain": round(statistics.median(ratios), 3),
            "against_plain_fastest": round(min(taken) / min(times[PLAIN]), 3),
            "calls": len(taken),
        }
    return found


def prepare(folder: Path) -> dict[str, dict[str, Path]]:
    """Precision -> what is measured; what lies in the folder already is taken."""
    plain_torch = naive(folder)
    return {
        precision: {
            PLAIN: bundle("resnet50", precision, Form.STANDARD, folder),
            STANDARD: bundle("scconv_resnet50", precision, Form.STANDARD, folder),
            FUSED: bundle("scconv_resnet50", precision, Form.PLUGIN, folder),
            NAIVE: plain_torch,
        }
        for precision in ("fp32", "bf16")
    }


def opened(name: str, path: Path, precision: str, threads: int) -> OpenVINORunner:
    """A runner; only the naive export is left to OpenVINO's own inference precision."""
    return OpenVINORunner(path, threads, hint="bf16" if (name, precision) == (NAIVE, "bf16") else None)


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=4, help="seconds per setting")
    parser.add_argument("--folder", type=Path, help="keeps the exports, for a second run")
    parser.add_argument("--prepare", action="store_true", help="export into the folder and stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        exports = prepare(options.folder or Path(work))
        if options.prepare:
            return
        before = load_average()
        results: dict[str, Json] = {}
        for precision, files in exports.items():
            for batch, threads in SETTINGS:
                runners = {name: opened(name, path, precision, threads) for name, path in files.items()}
                key = f"{precision}, batch {batch}, threads {threads}"
                results[key] = measure(runners, batch, options.duration)
                print(key, results[key], flush=True)
    path = write_results(
        "openvino",
        {
            "what": "SCConv-ResNet-50 in OpenVINO on CPU: against_plain is the median over interleaved calls of the "
            "time over the plain ResNet-50's, both opened by scconv_deploy's runner",
            "openvino": version(),
            "commit": history.commit(),
            "load_average_before": before,
            "load_average_after": load_average(),
            "results": results,
        },
    )
    print(path)


if __name__ == "__main__":
    main()
