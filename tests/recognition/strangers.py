"""Modules that share SCConv's name, parts or purpose and are something else altogether."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.recognition import wild

C = 16


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(C, C // 4, 1), nn.Conv2d(C // 4, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class CBAM(nn.Module):
    """Channel attention, then spatial attention."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(C, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, C, 1, bias=False))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))
        x = torch.sigmoid(pooled) * x
        planes = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.spatial(planes)) * x


class GhostConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.primary = nn.Conv2d(C, C // 2, 1, bias=False)
        self.cheap = nn.Conv2d(C // 2, C // 2, 5, padding=2, groups=C // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)


class SPConv(nn.Module):
    """Split-based convolution: representative part through GWC and PWC, the rest through a 1x1; fused by
    attention over both pooled branches. The CRU's ancestor, with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        h = C // 2
        self.gwc, self.pwc = nn.Conv2d(h, C, 3, padding=1, groups=2), nn.Conv2d(h, C, 1)
        self.rest = nn.Conv2d(h, C, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(C), nn.BatchNorm2d(C)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        y1, y2 = self.bn1(self.gwc(a) + self.pwc(a)), self.bn2(self.rest(b))
        p = torch.stack([F.adaptive_avg_pool2d(y, 1) for y in (y1, y2)]).softmax(0)
        return p[0] * y1 + p[1] * y2


class SelectiveKernel(nn.Module):
    """Two kernels and a softmax over the branches."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(C, C, 3, padding=1, groups=4), nn.Conv2d(C, C, 5, padding=2, groups=4)
        self.z, self.wa, self.wb = nn.Conv2d(C, 4, 1), nn.Conv2d(4, C, 1), nn.Conv2d(4, C, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        z = F.relu(self.z(F.adaptive_avg_pool2d(a + b, 1)))
        p = torch.stack([self.wa(z), self.wb(z)]).softmax(0)
        return p[0] * a + p[1] * b


class GatedGroupNorm(nn.Module):
    """A self-gated activation: group norm, sigmoid, product; no threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(4, C)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gn(x)
        return y * torch.sigmoid(y)


class Volumetric(nn.Module):
    """A 3-D SRU."""

    def __init__(self) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(4, C)

    def forward(self, x: Tensor) -> Tensor:
        w = (self.gn.weight / self.gn.weight.sum()).view(1, -1, 1, 1, 1)
        r = torch.sigmoid(self.gn(x) * w)
        return wild.mix((r >= 0.5) * x, (r < 0.5) * x)


class ScConv(nn.Module):
    """The name alone: Inception-like, five convolutions and one softmax."""

    def __init__(self) -> None:
        super().__init__()
        q = C // 4
        self.one = nn.ModuleList(nn.Conv2d(C, q, 1) for _ in range(3))
        self.two = nn.ModuleList(nn.Conv2d(q, 2 * q, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = (conv(x) for conv in self.one)
        y = torch.cat([self.two[0](a), self.two[1](b)], 1)
        return y * F.softmax(c.mean((2, 3), keepdim=True), 1).repeat(1, 4, 1, 1)


SILENT: list[tuple[str, Callable[[], nn.Module]]] = [
    ("squeeze and excitation", SqueezeExcite),
    ("CBAM", CBAM),
    ("GhostConv", GhostConv),
    ("SPConv", SPConv),
    ("self-gated group norm", GatedGroupNorm),
    ("a norm alone", lambda: wild.ChannelGroupNormalizer(C)),
    ("depthwise separable", lambda: nn.Sequential(nn.Conv2d(C, C, 3, groups=C), nn.Conv2d(C, C, 1))),
    ("transformer layer", lambda: nn.TransformerEncoderLayer(C, 2, 32, batch_first=True)),
]
"""Nothing is said about these: they do not even look like SCConv."""

NAMED: list[tuple[str, Callable[[], nn.Module], str]] = [
    ("Self-Calibrated Convolution", wild.SCConv, "called SCConv but is not"),
    ("Simple Recurrent Unit", wild.SRU, "called SRU but is not"),
    ("selective kernels", SelectiveKernel, "different function"),
    ("ScConv by name only", ScConv, "forward raised"),
    ("3-D form", Volumetric, "3-D form"),
    ("1-D form", lambda: wild.OneDimensional(C), "1-D form"),
    ("odd channels", lambda: wild.OddUnit(15), "odd number of channels"),
    ("lazy layer", lambda: wild.LazyLayer(C), "builds layers or tensors of its own"),
    ("buffer counter", lambda: wild.Counting(C), "rewrites its own state"),
]
"""These look like it, or are called so, and are named with the reason."""
