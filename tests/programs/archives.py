"""Good program archives, and the same archives with one entry replaced."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scconv_deploy.scconv.reference.families import scconv

PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
SAMPLES = "data/sample_inputs/model.pt"


class Host(nn.Module):
    """A stem, one SCConv block with drawn norm parameters, and two ways out."""

    def __init__(self, family: str = "F3", channels: int = 8, kind: type = tuple) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        self.block = scconv(family, channels)
        self.head = nn.Conv2d(channels, 2, 1)
        self.kind = kind
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if ".gn." in name:
                    parameter.uniform_(0.5, 1.5)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.block(self.stem(x))
        if self.kind is dict:
            return {"map": self.head(y), "mean": y.mean((2, 3))}
        return (self.head(y), y.mean((2, 3))) if self.kind is list else self.head(y)


X = torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(4))


def exported(path: Path, net: nn.Module | None = None, free: bool = False, x: torch.Tensor = X) -> Path:
    """Write ``net`` with torch.export.save."""
    batch = torch.export.Dim("batch", min=1, max=16)
    shapes = ({0: batch},) if free else None
    program = torch.export.export((net or Host()).eval(), (x,), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


def traced(path: Path, net: nn.Module | None = None, freeze: bool = False, x: torch.Tensor = X) -> Path:
    """Write ``net`` with torch.jit.trace."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = torch.jit.trace((net or Host()).eval(), x, check_trace=False)
        torch.jit.save(torch.jit.freeze(made) if freeze else made, path)
    return path


def scripted(path: Path, net: nn.Module) -> Path:
    """Write ``net`` with torch.jit.script."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net.eval()), path)
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Entries below the top folder."""
    with zipfile.ZipFile(path) as archive:
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}


def written(path: Path, entries: Mapping[str, bytes], deflate: bool = False) -> Path:
    """An archive of these entries below the folder ``model``."""
    way = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", way) as archive:
        for name, data in entries.items():
            archive.writestr(f"model/{name}", data)
    return path


def changed(good: Mapping[str, bytes], name: str, change: Callable[[Any], None]) -> dict[str, bytes]:
    """The entries with the JSON of one of them changed in place."""
    content = json.loads(good[name])
    change(content)
    return {**good, name: json.dumps(content).encode()}


def pickled(content: object) -> bytes:
    """What torch.save writes."""
    made = io.BytesIO()
    torch.save(content, made)
    return made.getvalue()
