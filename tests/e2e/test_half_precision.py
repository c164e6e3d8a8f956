"""fp16 and bf16 through the real command line: both targets, I/O types, the literal gate, and verify again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import scconv_deploy
from scconv_deploy.errors import CapabilityError
from tests.cli.program import scconv
from tests.e2e.digits import BLOCKS, SAMPLES

MODEL = SAMPLES / "model.pt"
IMAGES = SAMPLES / "test_images.npz"
ISLAND = {"gate": "fp32", "fuse": "fp32"}


def export(folder: Path, *arguments: str) -> dict[str, Any]:
    """Export to ``b``; the command's JSON."""
    done = scconv("export", str(MODEL), "-o", "b", "--json", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("target", ["onnx", "trt-rtx"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_export_and_verify_again(precision: str, target: str, tmp_path: Path) -> None:
    if target == "trt-rtx":
        pytest.importorskip("tensorrt_rtx", reason='pip install "scconv-deploy[trt-rtx]"')
    manifest = export(tmp_path, "--target", target, f"--{precision}", "--calib", str(IMAGES))["manifest"]
    wanted = {path: {"convolutions": precision, **ISLAND} for path in BLOCKS["model.pt"]}
    assert manifest["precision"] == {"asked": precision, "built": precision, "io": "fp32", "blocks": wanted}
    assert (manifest["gate"], manifest["opset"]) == ("exact", {"fp16": 20, "bf16": 22}[precision])
    assert [t["dtype"] for t in (*manifest["inputs"], *manifest["outputs"])] == ["float32", "float32"]
    assert f"--precision {precision}" in manifest["reproduce"]
    assert "--opset" not in manifest["reproduce"]
    parity = manifest["verification"]
    assert parity["verdict"] != "FAIL"
    gates = [piece["gate"] for piece in parity["pieces"] if piece["gate"]]
    limit = {"fp16": 1e-4, "bf16": 1e-3}[precision]
    assert len(gates) == len(BLOCKS["model.pt"])
    assert all(g["flips"] <= limit * g["gates"] for g in gates)
    # In full where the file itself is compared, against its own samples elsewhere: one subprocess each.
    model = [str(MODEL)] if target == "onnx" else []
    again = scconv("verify", "b", *model, "--quiet", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    if manifest["not_executed"] is not None and target == "onnx":
        assert precision == "bf16"
        with pytest.raises(CapabilityError, match=r"kernel for Conv\(22\) .*model\.onnx"):
            scconv_deploy.open(tmp_path / "b")


def test_half_outside_too(tmp_path: Path) -> None:
    manifest = export(tmp_path, "--target", "onnx", "--fp16", "--io-dtype", "fp16")["manifest"]
    assert "--io-dtype fp16" in manifest["reproduce"]
    assert [t["dtype"] for t in (*manifest["inputs"], *manifest["outputs"])] == ["float16", "float16"]
    with scconv_deploy.open(tmp_path / "b", threads=1, verify="golden") as engine:
        image = np.zeros((1, 1, 8, 8), np.float16)
        result = engine(image)
        assert isinstance(result, np.ndarray)
        assert result.dtype == np.float16
    kinds = {v.type.tensor_type.elem_type for v in onnx.load(tmp_path / "b" / "model.onnx").graph.input}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_the_literal_gate_is_exported_only_as_asked(tmp_path: Path) -> None:
    manifest = export(tmp_path, "--target", "onnx", "--gate", "sigmoid", "--no-verify", "--fp16")["manifest"]
    assert manifest["gate"] == "sigmoid"
    assert "--gate sigmoid" in manifest["reproduce"]
    assert manifest["style"]["literal_gate"] is True
    assert {roles["gate"] for roles in manifest["precision"]["blocks"].values()} == {"fp16"}
    report = json.loads(scconv("verify", "b", str(MODEL), "--json", folder=tmp_path).stdout)
    assert report["verdict"] != "PASS"
    assert "max-flip-rate" in [budget["name"] for budget in report["budgets"] if not budget["kept"]]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--int8",), 2, "int8 needs real samples"),
        (("--fp8", "--calib", str(IMAGES)), 3, "fp8 is for TensorRT"),
        (("--bf16", "--opset", "20"), 2, "bf16 needs opset 22"),
        (("--io-dtype", "int8"), 2, "--io-dtype is fp32, fp16 or bf16"),
        (("--gate", "exakt"), 2, "did you mean 'exact'"),
        (("--atol", "tight"), 2, "--atol 'tight' is not a limit"),
    ],
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], code: int, words: str, tmp_path: Path) -> None:
    done = scconv("export", str(MODEL), "--target", "onnx", *arguments, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
