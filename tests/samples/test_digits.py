"""The committed digits checkpoints load safely, build, and classify the committed test split."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference import ReferenceSCConv

DIGITS = Path(__file__).parents[2] / "samples" / "digits"
WANTED_ACCURACY = 0.97
SIZE_LIMIT = 2_000_000


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.load(DIGITS / "test_images.npz")["image"])


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    return torch.from_numpy(np.load(DIGITS / "test_images.npz")["label"])


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.inference_mode():
        logits: torch.Tensor = model(images)
    return (logits.argmax(dim=1) == labels).double().mean().item()


def zoo_model() -> nn.Module:
    checkpoint = torch.load(DIGITS / "model.pt", weights_only=True)
    model = zoo.build(checkpoint["architecture"], **checkpoint["settings"])
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def test_the_split_is_real_digits(images: torch.Tensor, labels: torch.Tensor) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn (the 'samples' extra) is absent")
    digits = datasets.load_digits()
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.shape == (450, 1, 8, 8)
    assert images.min() == 0.0
    assert images.max() == 1.0
    known = {(image.tobytes(), int(label)) for image, label in zip(digits.images, digits.target, strict=True)}
    ours = {
        ((image[0].double() * 16).numpy().tobytes(), int(label))
        for image, label in zip(images, labels, strict=True)
    }
    assert ours <= known
    assert torch.bincount(labels).min() >= 43  # stratified: every digit is there about 45 times


def test_model_pt(images: torch.Tensor, labels: torch.Tensor) -> None:
    checkpoint = torch.load(DIGITS / "model.pt", weights_only=True)
    assert checkpoint["format"] == "scconv-deploy/1"
    assert checkpoint["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]
    assert zoo.default_input(checkpoint["architecture"], checkpoint["settings"]) == (1, 8, 8)
    model = zoo_model()
    blocks = [m for m in model.modules() if isinstance(m, ReferenceSCConv)]
    assert len(blocks) >= 4
    assert all(b.spec.sru is not None and b.spec.sru.gate == "hard" for b in blocks)
    found = accuracy(model, images, labels)
    assert found >= WANTED_ACCURACY
    assert found == pytest.approx(checkpoint["test_accuracy"], abs=0.005)


def test_accuracy_comes_from_the_weights(images: torch.Tensor, labels: torch.Tensor) -> None:
    model = zoo_model()
    for module in model.modules():
        if isinstance(module, ReferenceSCConv):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
    assert accuracy(model, images, labels) < WANTED_ACCURACY


def test_pickled_pt(images: torch.Tensor, labels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DIGITS))
    model = torch.load(DIGITS / "pickled.pt", weights_only=False)
    assert type(model).__module__ == "digits_net"
    blocks = [m for m in model.modules() if type(m).__name__ == "ScConv"]
    assert len(blocks) >= 4
    assert accuracy(model.eval(), images, labels) >= WANTED_ACCURACY


def test_pickled_pt_does_not_load_without_trust() -> None:
    with pytest.raises(pickle.UnpicklingError, match="digits_net"):
        torch.load(DIGITS / "pickled.pt", weights_only=True)


@pytest.mark.parametrize("name", ["model.pt", "pickled.pt", "test_images.npz"])
def test_files_are_small(name: str) -> None:
    assert (DIGITS / name).stat().st_size < SIZE_LIMIT


def test_training_script_runs(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn (the 'samples' extra) is absent")
    command = [sys.executable, str(DIGITS / "train.py"), "--epochs", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr  # one epoch is not enough, and it says so
    assert done.stdout.count("test accuracy") == 2
    assert {p.name for p in tmp_path.iterdir()} == {"model.pt", "pickled.pt", "test_images.npz"}
    again, committed = (np.load(folder / "test_images.npz") for folder in (tmp_path, DIGITS))
    assert np.array_equal(again["image"], committed["image"])
