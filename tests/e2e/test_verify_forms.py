"""A bundle is verified again as it was made: options that chose its graph are its own, and not the defaults."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scconv_deploy
from scconv_deploy.artifacts import Bundle
from scconv_deploy.config import ExportConfig, Form, GateForm, Precision, default_opset, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.pipeline import run_export, run_verify
from scconv_deploy.scconv import zoo
from scconv_deploy.stages import reopen
from scconv_deploy.verdicts import Verdict
from tests.e2e.digits import SAMPLES
from tests.runtime.bundles import write_manifest

IMAGES, MODEL = SAMPLES / "test_images.npz", SAMPLES / "model.pt"
FILES = ("model.onnx", "samples.npz", "report.html")


def export(out: Path, target: str = "onnx", precision: str = "fp32", **changes: object) -> Path:
    chosen = Precision(precision)
    config = ExportConfig(
        target, out=out, precision=chosen, opset=default_opset(chosen), calib=IMAGES, verify=False
    )
    return run_export(MODEL, replace(config, **changes), Silence()).path  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def unsimplified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """int8 without onnxsim, whose graph is another one than the simplified."""
    return export(tmp_path_factory.mktemp("forms") / "b", precision="int8", simplify=False)


def altered(bundle: Path, folder: Path, **changes: Any) -> Path:
    """A copy whose manifest says something else."""
    copy = shutil.copytree(bundle, folder / "copy")
    manifest = {**json.loads((copy / "manifest.json").read_text()), **changes}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_a_quantised_graph_that_was_not_simplified_is_traced_as_it_was(unsimplified: Path) -> None:
    report = run_verify(unsimplified, model=MODEL, listener=Silence())
    assert report.verdict is Verdict.PASS, report.sentence
    assert sum(p.quantised is not None for p in report.pieces) == 7


def test_a_graph_that_is_traced_otherwise_now_is_no_verdict_on_the_bundle(
    unsimplified: Path, tmp_path: Path
) -> None:
    """As a later version would find it: the same model gives another graph than the one that was quantised."""
    moved = altered(unsimplified, tmp_path, simplify=True)
    with pytest.raises(
        CapabilityError, match=r"model\.pt is traced to another graph here .* export it again"
    ) as caught:
        run_verify(moved, model=MODEL, listener=Silence())
    assert caught.value.exit_code == 3
    assert run_verify(moved, listener=Silence()).verdict is Verdict.PASS  # its golden samples still can be


def test_without_a_fingerprint_the_graphs_are_compared_as_they_are(
    unsimplified: Path, tmp_path: Path
) -> None:
    """The broken twin of the test before: what a bundle that says nothing of its graph is told."""
    moved = altered(unsimplified, tmp_path, simplify=True, traced=None)
    report = run_verify(moved, model=MODEL, listener=Silence())
    assert report.verdict is Verdict.FAIL
    assert "stands where" in report.sentence


def test_a_fault_in_the_graph_is_a_fault_where_tracing_has_not_changed(
    unsimplified: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(unsimplified, tmp_path / "copy")
    import onnx

    model = onnx.load(copy / "model.onnx")
    next(a for n in model.graph.node if n.op_type == "Gemm" for a in n.attribute if a.name == "alpha").f = 2.0
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    write_manifest(copy, json.loads((copy / "manifest.json").read_text()), FILES)
    report = run_verify(copy, model=MODEL, listener=Silence())
    assert report.verdict is Verdict.FAIL
    assert "has other attributes than the traced node" in report.sentence


EVERY = [
    *(("onnx", p, f) for p in ("fp32", "fp16", "int8") for f in Form),
    ("onnx", "bf16", Form.STANDARD),
    *(("openvino", p, f) for p in ("fp32", "fp16", "bf16") for f in Form),
    *(("trt-rtx", p, Form.STANDARD) for p in ("fp32", "fp16", "bf16", "int8", "fp8")),
    *(("trt-rtx", p, Form.PLUGIN) for p in ("fp32", "fp16")),
]
LIBRARIES = {"openvino": "openvino", "trt-rtx": "tensorrt_rtx"}


def exported_or_skipped(make: Callable[[], Path], target: str) -> Path:
    if target in LIBRARIES and importlib.util.find_spec(LIBRARIES[target]) is None:
        pytest.skip(f"{LIBRARIES[target]} is not installed")
    try:
        return make()
    except CapabilityError as error:
        pytest.skip(f"cannot be exported here: {error}")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision", "form"), EVERY)
def test_every_target_form_and_precision_is_verified_against_its_model(
    target: str, precision: str, form: Form, tmp_path: Path
) -> None:
    capabilities = ("sm_89",) if target == "trt-rtx" else ()
    path = exported_or_skipped(
        lambda: export(tmp_path / "b", target, precision, form=form, compute_capabilities=capabilities),
        target,
    )
    report = run_verify(path, model=MODEL, samples=IMAGES, listener=Silence())
    assert report.verdict is not Verdict.FAIL, report.sentence
    assert run_verify(path, listener=Silence()).verdict is not Verdict.FAIL


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"autotune_seconds": 5.0},
        {"simplify": False},
        {"gate": GateForm.SIGMOID},
        {"io_dtype": Precision.FP16},
        {"opset": 18},
        {"shapes": shape_ranges(["4x1x8x8"])},
        {"seed": 7},
    ],
    ids=lambda c: next(iter(c)),
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_options_that_shape_the_graph_are_the_bundles_own(
    changes: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    try:
        path = export(tmp_path / "b", "onnx", precision, **changes)
    except InputError as error:
        pytest.skip(f"no such export: {error}")
    report = run_verify(path, model=MODEL, listener=Silence())
    assert report.verdict is not Verdict.FAIL, report.sentence


def chaotic(out: Path, precision: str) -> Bundle:
    """Fifteen hard-gated blocks at their initial weights, where one flip early moves every logit."""
    import torch

    torch.manual_seed(0)
    net = zoo.build("scconv_resnet20", family="paper", blocks=[3, 3, 3]).eval()
    calib = out.with_suffix(".npz")
    np.savez(calib, x=np.random.default_rng(0).standard_normal((16, 3, 32, 32)).astype(np.float32))
    return scconv_deploy.export(net, torch.zeros(2, 3, 32, 32), "onnx", precision, out, calib=calib)


@pytest.mark.slow
def test_an_ambiguous_bundle_is_served_by_its_own_golden_samples_and_a_broken_one_is_not(
    tmp_path: Path,
) -> None:
    bundle = chaotic(tmp_path / "b", "fp16")
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.AMBIGUOUS
    opened = reopen.run(bundle.path)
    assert {name: len(runs) for name, runs in opened.golden.own.items()} == {"output": 2}
    scconv_deploy.open(bundle.path, verify="golden").close()
    assert run_verify(bundle.path, listener=Silence()).verdict is not Verdict.FAIL
    arrays = dict(np.load(bundle.path / "samples.npz"))
    arrays["artifact.output"] = arrays["artifact.output"][:, ::-1]
    np.savez(bundle.path / "samples.npz", **arrays)
    write_manifest(bundle.path, json.loads((bundle.path / "manifest.json").read_text()), FILES)
    with pytest.raises(InputError, match="is not served"):
        scconv_deploy.open(bundle.path, verify="golden")
    assert run_verify(bundle.path, listener=Silence()).verdict is Verdict.FAIL
