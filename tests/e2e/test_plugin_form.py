"""``--form plugin``: exported, verified piece by piece, opened with the kernels and without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exporters.onnx_model import OnnxExporter
from scconv_deploy.artifacts import Bundle
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import InputError, VerificationError
from scconv_deploy.kernels import loader
from scconv_deploy.pipeline import run_export
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.runtime.golden import read_golden
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.fused_ops import DOMAIN
from scconv_deploy.verdicts import Verdict
from tests.stages.small import EXAMPLE, network


def export(out: Path, precision: Precision = Precision.FP32, simplify: bool = True) -> Bundle:
    torch.manual_seed(0)
    net = nn.Sequential(*network().eval(), nn.ReLU())
    config = ExportConfig(
        target="onnx", out=out, form=Form.PLUGIN, precision=precision, opset=20, simplify=simplify
    )
    return run_export(net, config, Silence(), example_inputs=(EXAMPLE,))


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("simplify", [True, False])
def test_a_bundle_is_verified_and_runs_with_and_without_kernels(
    precision: Precision, simplify: bool, tmp_path: Path
) -> None:
    bundle = export(tmp_path / "b", precision, simplify)
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    assert "2" in [p.piece for p in bundle.parity.pieces]
    model = onnx.load(bundle.artifact)
    onnx.checker.check_model(model, full_check=True)
    fused = [n.op_type for n in model.graph.node if n.domain == DOMAIN]
    assert fused == ["SRU_soft", "CRUFuse_joint_affine"]
    assert {f.name for f in model.functions} == set(fused)
    inputs, outputs = read_golden(bundle.path)
    for use_kernels in (True, False):
        with OnnxRunner(bundle.artifact, threads=1, use_kernels=use_kernels) as runner:
            (got,) = runner.run(inputs).values()
        (want,) = outputs.values()
        np.testing.assert_allclose(got, want, atol=1e-5 if precision is Precision.FP32 else 1e-2)
    with open_bundle(bundle.path, threads=1, verify="golden") as engine:
        assert engine.output_names


def test_without_the_library_it_exports_too_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "no-library"
    empty.mkdir()
    monkeypatch.setattr(loader, "FOLDER", empty)
    loader.say_once.cache_clear()
    bundle = export(tmp_path / "b")
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    notes = bundle.manifest["notes"]
    assert isinstance(notes, list)
    assert sum("fused kernels are not built here" in str(note) for note in notes) == 1


@pytest.mark.parametrize("fault", ["swapped halves", "groups", "scale"])
def test_a_wrong_node_is_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = OnnxExporter.build

    def broken(self: OnnxExporter, graph, *args):
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        node = next(n for n in model.graph.node if n.op_type == "SRU_soft")
        if fault == "swapped halves":
            node.output[0], node.output[1] = node.output[1], node.output[0]
        elif fault == "groups":
            next(a for a in node.attribute if a.name == "groups").i = 1
        else:
            node.input[1] = node.input[2]
        graph.model.CopyFrom(model)
        return build(self, graph, *args)

    monkeypatch.setattr(OnnxExporter, "build", broken)
    with pytest.raises(VerificationError):
        export(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_other_targets_and_precisions_refuse_it_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plugin exists in fp32, fp16 and int8"):
        OnnxExporter().check(ExportConfig("onnx", form=Form.PLUGIN, precision=Precision.BF16, opset=22))
    config = ExportConfig("trt-rtx", out=tmp_path / "b", form=Form.PLUGIN, precision=Precision.BF16, opset=22)
    with pytest.raises(InputError, match="--form plugin"):
        run_export(network().eval(), config, Silence(), example_inputs=(EXAMPLE,))
