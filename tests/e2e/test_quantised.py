"""int8 and fp8 from the command's own entry to the bundle, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import scconv_deploy
from scconv_deploy.artifacts import TracedGraph
from scconv_deploy.config import ExportConfig, Precision
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import InputError, VerificationError
from scconv_deploy.pipeline import run_export, run_verify
from scconv_deploy.stages import quantize
from scconv_deploy.verdicts import Verdict
from tests.cli.program import scconv
from tests.e2e.digits import SAMPLES
from tests.quantise.graphs import store, stored

IMAGES = SAMPLES / "test_images.npz"
MODEL = SAMPLES / "model.pt"
INT8 = ExportConfig("onnx", precision=Precision.INT8, calib=IMAGES)
Twin = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model in int8 for ONNX Runtime, by the command line."""
    folder = tmp_path_factory.mktemp("int8") / "digits"
    done = scconv(
        *(
            "export",
            str(MODEL),
            "--target",
            "onnx",
            "--int8",
            "--calib",
            str(IMAGES),
            "-o",
            str(folder),
            "--json",
        ),
        folder=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["manifest"]["precision"]["built"] == "int8"
    return folder


def test_it_agrees_on_the_task_and_says_what_was_done(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["verification"]["task"]["artifact"] >= 0.99
    assert manifest["verification"]["verdict"] == "PASS"
    assert manifest["precision"]["built"] == "int8"
    assert {r["convolutions"] for r in manifest["precision"]["blocks"].values()} == {"int8"}
    assert {r["gate"] for r in manifest["precision"]["blocks"].values()} == {"fp32"}
    calibration = manifest["calibration"]
    assert (calibration["samples"], calibration["method"], len(calibration["sha256"])) == (450, "minmax", 64)
    assert "--calib-method minmax" in manifest["reproduce"]
    pieces = [p for p in manifest["verification"]["pieces"] if p["piece"].endswith(", quantised")]
    assert len(pieces) == 7
    assert sum(p["quantised"]["off"] for p in pieces) == 0
    assert (bundle / "model.onnx").stat().st_size < 180_000  # float32: 209,500


def test_the_runtime_opens_it(bundle: Path) -> None:
    given = np.load(IMAGES)
    with scconv_deploy.open(bundle) as engine:
        made = next(iter(engine.run({"image": given["image"][:64].astype(np.float32)}).values()))
    assert (made.argmax(axis=1) == given["label"][:64]).mean() > 0.9


def test_it_is_verified_again_against_the_model_and_alone(bundle: Path) -> None:
    alone = run_verify(bundle, listener=Silence())
    assert (alone.verdict, alone.precision) == (Verdict.PASS, "int8")
    full = run_verify(bundle, model=MODEL, samples=IMAGES, listener=Silence())
    assert full.verdict is Verdict.PASS, full.sentence
    assert sum(p.quantised is not None for p in full.pieces) == 7
    assert any("gate decisions" in note for note in full.notes)


def test_without_samples_it_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int8 needs real samples"):
        run_export(MODEL, replace(INT8, calib=None, out=tmp_path / "x"), Silence())
    assert not (tmp_path / "x").exists()


def _scale_of_one_weight(model: onnx.ModelProto) -> None:
    store(
        model, "stages.1.0.conv1.weight_scale", stored(model, "stages.1.0.conv1.weight_scale") * np.float32(2)
    )


def _clipped(model: onnx.ModelProto) -> None:
    name = next(
        t.name
        for t in model.graph.initializer
        if t.name.startswith("stages.0.1.conv1.sru") and "scale" in t.name
    )
    store(model, name, stored(model, name) / np.float32(4))


def _doubled_output(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Gemm")
    next(a for a in node.attribute if a.name == "alpha").f = 2.0


@pytest.mark.parametrize(
    ("twin", "where"),
    [
        (_scale_of_one_weight, "outside the SCConv blocks, quantised"),
        (_clipped, "stages.0.1.conv1, quantised"),
        (_doubled_output, "outside the SCConv blocks, quantised"),
    ],
)
def test_a_broken_twin_is_not_promoted(
    twin: Twin, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = quantize.run

    def broken(*given: object) -> TracedGraph:
        made: TracedGraph = sound(*given)  # type: ignore[arg-type]
        model = onnx.ModelProto()
        model.CopyFrom(made.model)
        twin(model)
        return replace(made, model=model)

    monkeypatch.setattr(quantize, "run", broken)
    with pytest.raises(VerificationError) as caught:
        run_export(MODEL, replace(INT8, out=tmp_path / "x"), Silence())
    assert where in str(caught.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8])
def test_an_engine_is_built_on_codes_without_a_gpu(precision: Precision, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    config = replace(
        INT8, target="trt-rtx", precision=precision, compute_capabilities=("sm_89",), out=tmp_path / "e"
    )
    made = run_export(MODEL, config, Silence())
    assert made.parity is not None
    assert made.parity.verdict in (Verdict.PASS, Verdict.AMBIGUOUS)
    found = json.loads((tmp_path / "e" / "manifest.json").read_text())["precision"]
    assert (found["built"], found["rest"]) == (precision.value, "fp16")
    for roles in found["blocks"].values():
        assert roles["convolutions"] == precision.value
        assert roles["gate"] == "fp32"


@pytest.mark.slow
def test_a_float32_engine_for_turing_has_its_head_as_a_convolution(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    config = ExportConfig("trt-rtx", calib=IMAGES, compute_capabilities=("sm_75",), out=tmp_path / "e")
    made = run_export(MODEL, config, Silence())
    assert made.parity is not None
    assert made.parity.verdict is Verdict.PASS
    kinds = {n.op_type for n in onnx.load(tmp_path / "e" / "model.onnx").graph.node}
    assert "Conv" in kinds
    assert "Gemm" not in kinds
