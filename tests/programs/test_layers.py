"""Graphs that are one of torch's layers become that layer again, with the same numbers; others stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scconv_deploy.programs.layers import restore_layers
from tests.programs.archives import X


def restored(net: nn.Module) -> tuple[nn.Module, int]:
    module = torch.export.unflatten(torch.export.export(nn.Sequential(nn.Identity(), net).eval(), (X,)))
    return module, restore_layers(module)


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(3, 6, 3, stride=2, padding=(1, 2), dilation=2, groups=3),
        nn.Conv2d(3, 6, (1, 3), bias=False),
        nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="circular"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate"),
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(3, affine=False, eps=0.1),
    ],
    ids=repr,
)
def test_layers_come_back(net: nn.Module) -> None:
    with torch.no_grad():
        for buffer in net.buffers():
            buffer.add_(0.5 if buffer.is_floating_point() else 1)
    module, count = restored(net)
    assert count == 1
    assert type(module.get_submodule("1")) is type(net)
    torch.testing.assert_close(module(X), net.eval()(X))
    assert {n for n, _ in module.named_parameters()} == {f"1.{n}" for n, _ in net.named_parameters()}


class Twice(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


class ZeroBorder(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(x, (1, 2, 0, 0)))


@pytest.mark.parametrize(
    "net", [Twice(3, 4, 1), ZeroBorder(3, 4, 3), nn.BatchNorm2d(3, track_running_stats=False)]
)
def test_what_does_more_stays_a_graph(net: nn.Module) -> None:
    module, count = restored(net)
    assert count == 0
    torch.testing.assert_close(module(X), net.eval()(X))
