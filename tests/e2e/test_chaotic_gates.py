"""An untrained hard-gated network: PyTorch's own float32 flips gates. Promoted, unless a piece is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import Bundle, TracedGraph
from scconv_deploy.config import ExportConfig, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import VerificationError
from scconv_deploy.pipeline import run_export
from scconv_deploy.scconv import zoo
from scconv_deploy.stages import simplify
from scconv_deploy.verdicts import Verdict
from tests.e2e.faults import changed_head, doubled, doubled_output, dropped_gwc_bias


def network() -> nn.Module:
    """Ten hard-gated blocks at their initial weights: one flip early moves the logits by a few percent."""
    torch.manual_seed(0)
    return zoo.build("scconv_resnet20", family="paper", blocks=[2, 2, 2]).eval()


def export(out: Path) -> Bundle:
    return run_export(
        network(), ExportConfig(target="onnx", out=out, shapes=shape_ranges(["1x3x32x32"])), Silence()
    )


def test_it_is_promoted_and_pytorch_is_what_is_off(tmp_path: Path) -> None:
    parity = export(tmp_path / "bundle").parity
    assert parity is not None
    assert parity.verdict in (Verdict.AMBIGUOUS, Verdict.PASS)
    assert all(p.verdict is Verdict.PASS for p in parity.pieces)


def broken_block(model: onnx.ModelProto) -> None:
    doubled(model, "stages.1.1.conv1")


def broken_bias(model: onnx.ModelProto) -> None:
    dropped_gwc_bias(model, "stages.0.0.conv1")


@pytest.mark.parametrize("fault", [changed_head, doubled_output, broken_block, broken_bias])
def test_a_fault_is_never_taken_for_rounding(
    fault: Callable[[onnx.ModelProto], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = simplify.run

    def simplify_then_break(graph: TracedGraph, settings: ExportConfig) -> TracedGraph:
        clean = real(graph, settings)
        model = onnx.ModelProto()
        model.CopyFrom(clean.model)
        fault(model)
        return replace(clean, model=model)

    monkeypatch.setattr(simplify, "run", simplify_then_break)
    with pytest.raises(VerificationError, match="first at"):
        export(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
