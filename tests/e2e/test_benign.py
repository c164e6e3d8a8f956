"""A bundle edited by one unit in the last place, through the real ``scconv-verify``: still PASS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest

import scconv_deploy
from scconv_deploy.cli import run
from scconv_deploy.config import Precision
from tests.e2e.digits import BLOCKS, SAMPLES
from tests.parity.faults import half_gate, one_ulp, shifted_threshold

MODEL = SAMPLES / "model.pt"
Edit = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module", params=[Precision.FP32, Precision.FP16, Precision.BF16])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained digits model, not yet verified; tests put the file back."""
    out = tmp_path_factory.mktemp("benign") / "b"
    scconv_deploy.export(MODEL, target="onnx", precision=request.param, out=out, verify=False)
    return out


def edited(bundle: Path, edit: Edit) -> bytes:
    """Edit ``model.onnx`` and make the manifest's hash and size those of the new file."""
    path, manifest_path = bundle / "model.onnx", bundle / "manifest.json"
    before = path.read_bytes()
    model = onnx.load_from_string(before)
    edit(model)
    after = model.SerializeToString()
    assert after != before
    path.write_bytes(after)
    manifest = json.loads(manifest_path.read_text())
    manifest["files"]["model.onnx"] = {"sha256": hashlib.sha256(after).hexdigest(), "size_bytes": len(after)}
    manifest_path.write_text(json.dumps(manifest))
    return before


def put_back(bundle: Path, data: bytes) -> None:
    (bundle / "model.onnx").write_bytes(data)


def verdict_of(bundle: Path, said: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    images = str(SAMPLES / "test_images.npz")
    code = run("verify", [str(bundle), str(MODEL), "--samples", images, "--bisect", "--json"])
    return code, json.loads(said.readouterr().out)


@pytest.mark.parametrize("edit", [one_ulp, partial(shifted_threshold, share=1.2e-7)], ids=["weights", "gate"])
def test_one_ulp_passes(bundle: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    before = edited(bundle, edit)
    try:
        code, report = verdict_of(bundle, capsys)
    finally:
        put_back(bundle, before)
    assert report["verdict"] == "PASS", report["sentence"]
    assert code == 0


def test_the_broken_twin_fails(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same path does tell a broken graph: a gate rounded to half precision."""
    block = BLOCKS["model.pt"][-1]
    before = edited(bundle, lambda model: half_gate(model, block))
    try:
        code, report = verdict_of(bundle, capsys)
    finally:
        put_back(bundle, before)
    assert report["verdict"] == "FAIL"
    assert f"first at {block}.SRU" in str(report["sentence"])
    assert code == 1
