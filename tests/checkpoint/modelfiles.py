"""Small networks and checkpoints of every wrapping that the loading tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from scconv_deploy.config import ExportConfig
from scconv_deploy.scconv import zoo

SMALL: dict[str, Any] = {"width": 16, "blocks": (1, 1, 1)}
SMALL_TEXT = "scconv_resnet20(blocks=(1, 1, 1))"


def network(family: str = "F3", **settings: Any) -> nn.Module:
    """A zoo network with drawn norm parameters, so that families compute different things."""
    torch.manual_seed(5)
    net = zoo.build("scconv_resnet20", **{**SMALL, "family": family, **settings})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".gn." in name:
                parameter.uniform_(0.5, 1.5)
    return net.eval()


def saved(content: object, path: Path, **options: Any) -> Path:
    """Write ``content`` with torch.save and return the path."""
    torch.save(content, path, **options)
    return path


def config(**changes: Any) -> ExportConfig:
    return ExportConfig(target="onnx", **changes)


def same_outputs(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks compute the same on a drawn input."""
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.equal(one.eval()(x), other.eval()(x))


class Plain(nn.Module):
    """A user's network of layers whose class is known only here."""

    def __init__(self, width: int = 4, depth: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else width, width, 3) for i in range(depth))
        self.spare = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
