from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from scconv_deploy.artifacts import Bundle, Inspection, Json, Timing
from scconv_deploy.report.manifest import as_section
from scconv_deploy.report.summary import (
    kernel_sentence,
    show_export,
    show_inspection,
    show_parity,
    show_timings,
)
from scconv_deploy.verdicts import Verdict
from tests.report.example import IMAGES, bundle, manifest, parity


def console() -> Console:
    return Console(file=io.StringIO(), width=160, highlight=False, markup=False, emoji=False)


def said(out: Console) -> str:
    stream = out.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_an_export_is_told_in_full(tmp_path: Path) -> None:
    out = console()
    show_export(out, bundle(tmp_path))
    for part in (
        "PASS  agrees with PyTorch",
        "model.onnx (412.3 kB, precision fp32, for onnxruntime)",
        "2 blocks certified as F3: stage1.0.scconv, stage2.0.scconv",
        "stage3.odd: its gate depends on the batch",
        "41 kernels, 12.4 MB moved per call, 7 to 9 per SCConv block",
        "report.html",
        f"scconv-bench {tmp_path}",
    ):
        assert part in said(out), part
    assert "not executed" not in said(out)


def test_an_unexecuted_or_unverified_artifact_is_named_as_such(tmp_path: Path) -> None:
    made = bundle(tmp_path, verdict=None)
    out = console()
    show_export(out, replace(made, manifest={**made.manifest, "not_executed": "no GPU"}))
    assert "UNVERIFIED" in said(out)
    assert "PASS" not in said(out)
    assert "no GPU" in said(out)
    assert "scconv-verify" in said(out)


def test_a_precision_other_than_asked_is_told(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    out = console()
    changed: dict[str, Json] = {**made.manifest, "precision": {"asked": "fp16", "built": "fp32"}}
    show_export(out, replace(made, manifest=changed))
    assert "precision fp32, fp16 was asked for" in said(out)


def test_an_empty_manifest_can_still_be_told(tmp_path: Path) -> None:
    out = console()
    show_export(out, Bundle(tmp_path, tmp_path / "model.onnx", {}, None))
    assert str(tmp_path / "model.onnx") in said(out)


def test_many_modules_left_as_they_are_are_counted(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    left: list[Json] = [{"path": f"m{i}", "reason": "odd"} for i in range(11)]
    out = console()
    show_export(out, replace(made, manifest={**manifest(), "recognition": {"left_as_is": left}}))
    assert "no block was certified" in said(out)
    assert "and 3 more" in said(out)


def test_a_failed_comparison_shows_numbers_and_where_it_starts() -> None:
    out = console()
    show_parity(out, parity(Verdict.FAIL))
    assert "0.37" in said(out)
    assert "layer2.1.conv2" in said(out)
    assert said(out).rstrip().splitlines()[-1].startswith("FAIL")


def test_timings_show_ratios() -> None:
    out = console()
    show_timings(out, [Timing("model.onnx", 8, 1, 20, 2.5, 2.6, 2.9, 3.4, 2.4, 0.71, 0.68, 0.75)])
    for part in ("model.onnx", "2.500", "0.71x", "0.68 to 0.75"):
        assert part in said(out)


def test_an_inspection_names_the_code_a_file_needs() -> None:
    found = Inspection(
        "stranger.pt",
        "whole pickled module (zip)",
        "ab" * 32,
        77_500,
        ("nets.MyNet",),
        12,
        64_000,
        ("float32",),
        None,
        (IMAGES,),
        ("layer1.sc",),
        "scconv-export stranger.pt --trust nets.MyNet --target onnx",
        ("nothing was executed",),
    )
    out = console()
    show_inspection(out, found)
    for part in (
        "77.5 kB",
        "needs code  nets.MyNet",
        "1 module by shape: layer1.sc",
        "12 tensors with 64,000",
    ):
        assert part in said(out), part


def test_an_escape_sequence_in_a_module_path_is_harmless(tmp_path: Path) -> None:
    out = console()
    show_export(out, replace(bundle(tmp_path), manifest=manifest(path="\x1b[2Jgone")))
    assert "\x1b" not in said(out)
    assert "\\x1b[2Jgone" in said(out)


def test_no_kernel_report_gives_no_sentence() -> None:
    assert kernel_sentence(as_section(None)) is None
