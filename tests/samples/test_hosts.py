"""Host networks with SCConv inside: each exports and verifies, with every block found under its own name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import scconv_deploy
from scconv_deploy.artifacts import Bundle
from scconv_deploy.config import ShapeRange
from scconv_deploy.errors import VerificationError
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.spec import SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower
from scconv_deploy.verdicts import Verdict
from tests.recognition import near_misses, wild

HOSTS = Path(__file__).parents[2] / "samples" / "hosts"
STRIDED = (
    "custom (F3 with a bias on squeeze_up, stride 2 on squeeze_up, a bias on squeeze_low, stride 2 on "
    "squeeze_low, a bias on pwc1, a bias on pwc2)"
)
WANTED = {
    "resnet_f3": {"layer1.0.conv2": "F3", "layer1.1.conv2": "F3", "layer2.0.conv2": "F3"},
    "yolo_neck_f1": {"c2f.m.0.cv2": "F1", "c3k2.m.0.m.0.cv2": "F1"},
    "unet_f2": {"skip": "F2"},
    "restoration_paper": {
        "blocks.0.body.2": "paper (SRU only)",
        "blocks.0.body.3": "paper, CRU only",
        "blocks.1.body.2": "paper (SRU only)",
        "blocks.1.body.3": "paper, CRU only",
    },
    "strided_in_out": {"down.0.scconv": STRIDED, "down.1.scconv": STRIDED},
}


def host(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"host_{name}", HOSTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(model: nn.Module, shape: tuple[int, ...], target: str, out: Path) -> Bundle:
    if target == "trt":
        pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX (the 'trt-rtx' extra) is absent")
    return scconv_deploy.export(model, torch.randn(shape), target=target, out=out)


def blocks(bundle: Bundle) -> dict[str, str]:
    return {b["path"]: b["variant"] for b in bundle.manifest["recognition"]["blocks"]}  # type: ignore


def test_every_host_is_listed_here() -> None:
    assert {p.stem for p in HOSTS.glob("*.py")} == {*WANTED, "export_host"}


@pytest.mark.parametrize("target", ["onnx", "trt"])
@pytest.mark.parametrize("name", WANTED)
def test_hosts_export_and_verify(name: str, target: str, tmp_path: Path) -> None:
    found = host(name)
    bundle = export(found.build(), found.EXAMPLE_SHAPE, target, tmp_path / "bundle")
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS, bundle.parity.sentence
    checked = {p.piece for p in bundle.parity.pieces if p.verdict is Verdict.PASS}
    assert set(WANTED[name]) <= checked
    assert blocks(bundle) == WANTED[name]
    assert bundle.manifest["recognition"]["left_as_is"] == []  # type: ignore


def test_certificates_are_in_the_manifest(tmp_path: Path) -> None:
    found = host("strided_in_out")
    bundle = export(found.build(), found.EXAMPLE_SHAPE, "onnx", tmp_path / "bundle")
    for block in bundle.manifest["recognition"]["blocks"]:  # type: ignore
        assert block["spec"]["cru"]["squeeze_up"]["stride"] == [2, 2]  # type: ignore
        proof = block["certificate"]  # type: ignore
        assert proof["seed"] == 0  # type: ignore
        assert proof["probes"] > proof["edge_probes"] >= 3  # type: ignore
        assert 0.0 < proof["worst_error"] < 1e-10 < proof["runner_up_error"]  # type: ignore
        assert "SRU[" in proof["runner_up"]  # type: ignore


@pytest.mark.parametrize("name", ["yolo_neck_f1", "unet_f2"])
def test_dense_hosts_take_several_image_sizes(name: str, tmp_path: Path) -> None:
    found = host(name)
    channels = found.EXAMPLE_SHAPE[1]
    sizes = ShapeRange(None, (1, channels, 32, 32), (2, channels, 64, 48), (3, channels, 96, 96))
    bundle = scconv_deploy.export(found.build(), target="onnx", out=tmp_path / "bundle", shapes=[sizes])
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS, bundle.parity.sentence
    assert len({c.shape for c in bundle.parity.comparisons}) >= 4


def test_a_sample_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, str(HOSTS / "unet_f2.py"), "-o", str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "model.onnx: PASS" in done.stdout
    assert (tmp_path / "bundle" / "manifest.json").is_file()


class Mixed(nn.Module):
    """Certified blocks, a near miss of each kind, and ordinary layers."""

    def __init__(self) -> None:
        super().__init__()
        c = near_misses.C
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU())
        self.good = wild.Both(wild.SoftUnit(c), wild.TwoBranch(c))
        self.pooled = dict(near_misses.NEAR_MISSES)["max pooled"]()
        self.parted = wild.Both(wild.HardUnit(c, 4), wild.TwoBranch(c), nn.BatchNorm2d(c))
        self.gate = dict(near_misses.NEAR_MISSES)["hard-sigmoid"]()
        self.head = nn.Linear(c, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.good(self.stem(x))
        x = x + self.pooled(x)
        x = x + self.parted(x)
        x = x + self.gate(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("target", ["onnx", "trt"])
def test_a_model_with_blocks_and_near_misses_exports(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bundle = export(Mixed().eval(), (2, 3, 16, 16), target, tmp_path / "bundle")
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS, bundle.parity.sentence
    assert blocks(bundle) == {
        "good": "F3",
        "parted.s": "F1 (SRU only)",
        "parted.t": "CRU only",
    }
    left = {item["path"]: item["reason"] for item in bundle.manifest["recognition"]["left_as_is"]}  # type: ignore
    assert set(left) == {"pooled", "parted", "gate"}
    assert "global max pooling" in left["pooled"]
    assert "batch normalisation" in left["parted"]


def test_a_wrongly_replaced_host_is_not_promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: one kernel of the deployed block is doubled, and the export fails without a bundle."""

    class Doubled(DeploySCConv):
        def __init__(self, spec: SCConvSpec, weights: Mapping[str, Tensor], style: GraphStyle) -> None:
            super().__init__(spec, weights, style)
            assert self.cru is not None
            (self.cru.y1 if self.cru.has_dense_y1 else self.cru.gwc).weight.mul_(2.0)

    monkeypatch.setattr(lower, "DeploySCConv", Doubled)
    found = host("unet_f2")
    with pytest.raises(VerificationError, match="skip"):
        export(found.build(), found.EXAMPLE_SHAPE, "onnx", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
