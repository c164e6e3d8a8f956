from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from scconv_deploy.artifacts import Bundle, Inspection, Json
from scconv_deploy.report.manifest import as_section
from scconv_deploy.report.summary import (
    kernel_sentence,
    show_export,
    show_inspection,
    show_parity,
)
from scconv_deploy.report.to_json import to_json
from scconv_deploy.verdicts import TaskMetric, Verdict
from tests.report.example import IMAGES, bundle, manifest, parity
from tests.report.half_example import half_parity


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


def test_half_precision_is_told_by_flips_and_agreement() -> None:
    out = console()
    show_parity(out, half_parity(("layer1.0.conv2", "layer2.0.conv2")))
    text = said(out)
    assert "0.000903% flipped in the worst of 2 blocks (layer1.0.conv2); PyTorch's own fp16 0.0301%" in text
    assert "top-1 accuracy 0.9844 with the artifact, 0.9822 with PyTorch, on 450 real samples" in text
    assert "worst case" not in text
    assert "missed" not in text
    assert "starts at" not in text


@pytest.mark.parametrize(("verdict", "label"), [(Verdict.FAIL, "missed"), (Verdict.PASS, "excused")])
def test_a_missed_limit_under_a_good_verdict_is_called_excused(verdict: Verdict, label: str) -> None:
    report = half_parity(("a.b",), broken=0)
    out = console()
    show_parity(out, replace(report, verdict=verdict))
    lines = [text for text in said(out).splitlines() if text.startswith(("missed", "excused"))]
    assert lines
    assert all(line.startswith(label) for line in lines)


@pytest.mark.parametrize("own", [True, False])
def test_agreement_speaks_of_real_samples_where_there_are_any(own: bool) -> None:
    """The lowest agreement of all cases would be that on random noise, where the top class is a toss-up."""
    report = replace(
        half_parity(("a.b",)), task=TaskMetric("top-1 agreement", 1.0, 0.9978, 450) if own else None
    )
    noise = report.comparisons[1]
    unsure = replace(noise, metrics=replace(noise.metrics, top1_agreement=0.5))
    out = console()
    show_parity(out, replace(report, comparisons=(report.comparisons[0], unsure)))
    line = next(text for text in said(out).splitlines() if text.startswith("top-1"))
    if own:
        assert line.split(maxsplit=1)[1] == "99.78% agree with PyTorch on 450 real samples"
    else:
        assert "50.00% agree with PyTorch in the worst case (random); no real samples were given" in line


def test_no_flip_at_all_is_said_so() -> None:
    report = half_parity(("a.b",))
    gate = report.pieces[0].gate
    assert gate is not None
    calm = replace(report.pieces[0], gate=replace(gate, flips=0))
    out = console()
    show_parity(out, replace(report, pieces=(calm,)))
    assert f"none of {gate.gates:,} flipped in 1 block; PyTorch's own fp16 0.0226%" in said(out)


def test_a_half_precision_failure_names_unit_operator_and_budget() -> None:
    broken = half_parity(("layer1.0.conv2", "layer2.0.conv2"), broken=1)
    pieces = tuple(replace(p, operator="Greater_7") if i == 1 else p for i, p in enumerate(broken.pieces))
    out = console()
    show_parity(out, replace(broken, pieces=pieces))
    for part in (
        "layer2.0.conv2.SRU, operator Greater_7",
        "missed      max-flip-rate: 0.333, limit 0.001",
        "33.3% flipped in the worst of 2 blocks (layer2.0.conv2)",
    ):
        assert part in said(out), part


def test_a_unit_is_named_where_the_report_names_only_the_block() -> None:
    broken = replace(half_parity(("a.b",), broken=0), first_divergent_block="a.b")
    out = console()
    show_parity(out, broken)
    assert "a.b.SRU\n" in said(out)


def test_a_float32_export_that_passed_says_nothing_about_gates(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    watched = replace(half_parity(("a.b",)), precision="fp32", budgets=())
    with_gates, without = console(), console()
    show_export(with_gates, replace(made, manifest={**made.manifest, "verification": to_json(watched)}))
    show_export(without, made)
    assert said(with_gates) == said(without)
    half = console()
    changed = to_json(replace(watched, precision="fp16"))
    show_export(half, replace(made, manifest={**made.manifest, "verification": changed}))
    assert len(said(half).splitlines()) == len(said(without).splitlines()) + 2


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


def test_in_int8_the_gates_are_those_of_the_graph_before_q_and_dq() -> None:
    report = replace(half_parity(("a.b",)), precision="int8")
    out = console()
    show_parity(out, report)
    line = next(text for text in said(out).splitlines() if text.startswith("gates"))
    assert line.endswith("before Q/DQ")
    assert "PyTorch's own" not in line
