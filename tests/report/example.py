"""A manifest as the pipeline writes it, for the tests of the reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scconv_deploy.artifacts import Bundle, Certificate, Json, KernelReport, StageTiming, TensorSpec
from scconv_deploy.report.to_json import to_json
from scconv_deploy.verdicts import Comparison, ParityReport, TensorMetrics, Tolerance, Verdict

IMAGES = TensorSpec(
    "images", "float32", ("batch", 1, 32, 32), (1, 1, 32, 32), (8, 1, 32, 32), (64, 1, 32, 32), {}
)
LOGITS = TensorSpec("logits", "float32", ("batch", 10))


def metrics(max_abs: float = 1.9e-6, finite: bool = True) -> TensorMetrics:
    """Differences of a good export (or of a worse one)."""
    return TensorMetrics(max_abs, max_abs / 9, max_abs / 2, max_abs / 3, 0.9999999, 118.4, 1.0, finite)


def comparison(case: str, max_abs: float = 1.9e-6, verdict: Verdict = Verdict.PASS) -> Comparison:
    """One row of a parity report."""
    limit = 1e-4
    sentence = f"logits of {case}: max_abs {max_abs:.3g}, limit {limit:.3g}"
    return Comparison(case, "logits", (8, 10), metrics(max_abs), limit, verdict, sentence)


def parity(verdict: Verdict = Verdict.PASS) -> ParityReport:
    """A report with two comparisons; with FAIL, the second one misses its limit."""
    bad = verdict is Verdict.FAIL
    rows = (
        comparison("batch 1"),
        comparison("batch 8", 0.37 if bad else 3e-6, Verdict.FAIL if bad else Verdict.PASS),
    )
    sentence = "logits differ from PyTorch by 0.37" if bad else "agrees with PyTorch in all 2 comparisons"
    return ParityReport(
        verdict,
        sentence,
        "model.onnx in ONNX Runtime on CPU",
        Tolerance("fp32", "max_abs", 1e-5, 1e-4),
        rows,
        first_divergent_block="layer2.1.conv2" if bad else None,
        notes=("references come from the bundle",),
    )


def manifest(verdict: Verdict | None = Verdict.PASS, path: str = "stage2.0.scconv") -> Mapping[str, Json]:
    """Every key of the manifest, filled."""
    certificate = Certificate(0, 12, 6, 4.4e-16, "gate comparison > instead of >=", 0.83)
    blocks: Json = [
        {
            "path": p,
            "variant": "F3",
            "spec": {},
            "certificate": to_json(certificate),
            "parameters": {"gamma": "sru.gn.weight"},
        }
        for p in ("stage1.0.scconv", path)
    ]
    return {
        "schema_version": 1,
        "created": "2026-11-22T17:00:00Z",
        "target": "onnx",
        "inputs": [to_json(IMAGES)],
        "outputs": [to_json(LOGITS)],
        "source": {
            "origin": "samples/digits/model.pt",
            "kind": "weights with architecture name",
            "sha256": "ab" * 32,
            "architecture": "digits_net.DigitsNet",
        },
        "files": {"model.onnx": {"sha256": "cd" * 32, "size_bytes": 412_345}},
        "artifact": "model.onnx",
        "precision": {"asked": "fp32", "built": "fp32"},
        "opset": 20,
        "recognition": {
            "blocks": blocks,
            "left_as_is": [{"path": "stage3.odd", "reason": "its gate depends on the batch"}],
        },
        "stages": to_json(
            (StageTiming("load", 1.83, "12 modules, 64 k parameters"), StageTiming("trace", 2.8, "412 nodes"))
        ),
        "tool_versions": {"torch": "2.13.0", "onnxruntime": "1.32.0"},
        "verification": None if verdict is None else to_json(parity(verdict)),
        "kernel_report": to_json(
            KernelReport(41, 12_400_000, 2, {"FP32": 41}, {"stage1.0.scconv": 9, "stage2.0.scconv": 7})
        ),
        "runtime": "onnxruntime",
        "not_executed": None,
        "notes": ["Conv and BatchNorm were folded"],
        "reproduce": "scconv-export samples/digits/model.pt --target onnx --seed 0",
        "details": {},
    }


def bundle(folder: Path, verdict: Verdict | None = Verdict.PASS) -> Bundle:
    """A bundle object with this manifest; nothing is written."""
    report = None if verdict is None else parity(verdict)
    return Bundle(folder, folder / "model.onnx", manifest(verdict), report)
