"""Train two small SCConv networks on scikit-learn's digits and write the sample's checkpoints.

Writes, next to this file (or to ``--out``):

* ``model.pt``: weights plus architecture name and settings (zoo network, family "paper": hard gate, softmax
  per pair); loads under ``weights_only=True``.
* ``pickled.pt``: a whole pickled module of the classes in ``digits_net.py`` (family F3: soft gate).
* ``test_images.npz``: the test split, ``image`` float32 (N, 1, 8, 8) in [0, 1] and ``label`` int64 (N,).

    python samples/digits/train.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from digits_net import DigitsNet
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from scconv_deploy.scconv import zoo

SEED = 2023
ARCHITECTURE = "scconv_resnet20"
SETTINGS: dict[str, int | str | list[int]] = {
    "in_channels": 1,
    "num_classes": 10,
    "width": 16,
    "blocks": [2, 1, 1],
    "image": 8,
    "family": "paper",
}
WANTED_ACCURACY = 0.97


def split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train images, train labels, test images, test labels; images float32 (N, 1, 8, 8) in [0, 1]."""
    digits = load_digits()
    images = (digits.images[:, None] / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=SEED)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return train_x, train_y, test_x, test_y


def shifted(images: Tensor) -> Tensor:
    """Every image moved by -1, 0 or 1 pixel in both directions: a digit stays the same digit."""
    padded = F.pad(images, (1, 1, 1, 1))
    n = images.shape[0]
    rows = torch.randint(0, 3, (n, 1)) + torch.arange(8)
    columns = torch.randint(0, 3, (n, 1)) + torch.arange(8)
    sample = torch.arange(n)[:, None, None]
    return padded[sample, 0, rows[:, :, None], columns[:, None, :]][:, None]


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """AdamW with a one-cycle learning rate, batches of 64."""
    batches = len(images) // 64
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-2, total_steps=epochs * batches)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for index in order[: batches * 64].split(64):
            loss = F.cross_entropy(model(shifted(images[index])), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of correct top-1 answers in eval mode."""
    model.eval()
    with torch.inference_mode():
        logits: Tensor = model(images)
    return (logits.argmax(dim=1) == labels).double().mean().item()


def main() -> int:
    """Train both, write the files; 1 if either stays below the wanted accuracy."""
    parser = argparse.ArgumentParser(description="Train the digits sample.")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    torch.set_num_threads(
        1
    )  # the order of float additions, and so the result, must not depend on the machine
    train_x, train_y, test_x, test_y = split()
    scores = {}
    for name in ("model.pt", "pickled.pt"):
        torch.manual_seed(SEED)
        model = zoo.build(ARCHITECTURE, **SETTINGS) if name == "model.pt" else DigitsNet()
        start = time.perf_counter()
        train(model, train_x, train_y, options.epochs)
        scores[name] = accuracy(model, test_x, test_y)
        took = time.perf_counter() - start
        print(f"{name}: test accuracy {scores[name]:.4f} on {len(test_y)} images, {took:.0f} s")
        if name == "pickled.pt":
            torch.save(model, options.out / name)
            continue
        checkpoint = {
            "format": "scconv-deploy/1",
            "architecture": ARCHITECTURE,
            "settings": SETTINGS,
            "state_dict": model.state_dict(),
            "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
            "classes": 10,
            "test_accuracy": scores[name],
        }
        torch.save(checkpoint, options.out / name)
    np.savez_compressed(options.out / "test_images.npz", image=test_x.numpy(), label=test_y.numpy())
    return 0 if min(scores.values()) >= WANTED_ACCURACY else 1


if __name__ == "__main__":
    raise SystemExit(main())
