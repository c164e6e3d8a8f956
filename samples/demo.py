"""The whole product in one go: the trained digits models -> verified bundles -> one table of speed.

Run it with ``make demo``. Each step prints the command that does the same, ready to paste. Takes about a
minute on two cores; what it writes is in ``out/demo``, and running it again replaces that.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from rich.console import Console

import scconv_deploy
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.cli import run
from scconv_deploy.errors import EXIT_CAPABILITY_MISSING, EXIT_OK
from scconv_deploy.measurements import BenchReport
from scconv_deploy.report.benchmark import show_benchmark
from scconv_deploy.report.terminal import Terminal, console

ROOT = Path(__file__).resolve().parents[1]
DIGITS = "samples/digits"
SAMPLES = f"{DIGITS}/test_images.npz"
OUT = "out/demo"
DURATION_S = 1.0


def step(title: str, command: str, *arguments: str) -> int:
    """Say what happens and how to repeat it, then do it; returns the exit code."""
    print(f"\n--- {title}\n$ scconv-{command} {shlex.join(arguments)}", flush=True)
    return run(command, arguments)


def export(title: str, model: str, target: str, *more: str, name: str = "") -> tuple[Path, int]:
    """Export with the real test images as samples; returns the bundle's folder and the exit code."""
    folder = Path(f"{OUT}/{Path(model).stem}-{name or target}")
    arguments = (model, "--target", target, "-o", str(folder), "--calib", SAMPLES, "--force", *more)
    return folder, step(title, "export", *arguments)


def time_against_pytorch(folder: Path) -> BenchReport:
    """The same network without SCConv, in PyTorch, exported by torch alone, and our bundle, interleaved."""
    model = f"{DIGITS}/model.pt"
    kinds = (
        BackendKind.PLAIN,
        BackendKind.NAIVE,
        BackendKind.EAGER,
    )  # torch.compile takes half a minute more
    options = f"--duration {DURATION_S} --backends {','.join(kinds)}"
    print(f"\n--- How fast is it?\n$ scconv-bench {model} {folder} {options}", flush=True)
    with Terminal() as listener:
        config = BenchConfig(duration_s=DURATION_S, backends=kinds)
        return scconv_deploy.benchmark(model, folder, config=config, listener=listener)


def main() -> int:
    """Run every step; the exit code is the first one that is not a missing optional library."""
    os.chdir(ROOT)  # so that the printed commands can be pasted in the project's folder
    onnx, onnx_code = export("A trained SCConv network, to ONNX", f"{DIGITS}/model.pt", "onnx")
    half, half_code = export(
        "The same in half precision: how many of SRU's gates flip?",
        f"{DIGITS}/model.pt",
        "onnx",
        "--fp16",
        name="onnx-fp16",
    )
    trt, trt_code = export("The same network, to TensorRT", f"{DIGITS}/model.pt", "trt")
    pickled, pickled_code = export(
        "A whole pickled module: its code runs only because --trust names it",
        f"{DIGITS}/pickled.pt",
        "onnx",
        "--trust",
        "digits_net",
        "--input-shape",
        "1x1x8x8",
    )
    if onnx_code != EXIT_OK:
        return onnx_code
    verify_code = step("Is the bundle still what it was?", "verify", str(onnx))
    report = time_against_pytorch(onnx)
    out = console(sys.stdout)
    print("\n--- Result: milliseconds per image, one thread; ratios refer to the plain twin")
    show_benchmark(out, report)
    made = ((onnx, onnx_code), (half, half_code), (trt, trt_code), (pickled, pickled_code))
    for folder, code in made:
        _show_bundle(out, folder, code)
    return next((c for c in (*(code for _, code in made), verify_code) if c not in _FINE), EXIT_OK)


_FINE = (EXIT_OK, EXIT_CAPABILITY_MISSING)


def _show_bundle(out: Console, folder: Path, code: int) -> None:
    """One line: where it is, and what was proved of it here."""
    if code != EXIT_OK:
        out.print(f"{folder}: not built here, the reason is above (exit {code})", soft_wrap=True)
        return
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    proved = f"verified: {manifest['verification']['verdict']}"
    if manifest["not_executed"]:
        proved += " (its ONNX graph; the engine itself was built but not executed: no GPU here)"
    out.print(f"{folder / manifest['artifact']}  {proved}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
