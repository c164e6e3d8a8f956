"""Modules that are almost an SCConv block: one step of :class:`Plain` is written differently in each.

``Plain`` itself is F3 and must be recognised, so that what refuses the others is their one difference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

C = 8


class Plain(nn.Module):
    """A flat F3 block; every step is a method that a near miss replaces."""

    def __init__(self, c: int = C):
        super().__init__()
        self.gn = nn.GroupNorm(2, c)
        self.up, self.low = nn.Conv2d(c // 2, c // 4, 1, bias=False), nn.Conv2d(c // 2, c // 4, 1, bias=False)
        self.gwc = nn.Conv2d(c // 4, c, 3, padding=1, groups=2)
        self.pwc1 = nn.Conv2d(c // 4, c, 1, bias=False)
        self.pwc2 = nn.Conv2d(c // 4, c - c // 4, 1, bias=False)

    def norm(self, x: Tensor) -> Tensor:
        return self.gn(x)

    def importance(self) -> Tensor:
        return self.gn.weight / self.gn.weight.sum()

    def score(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.norm(x) * self.importance().view(1, -1, 1, 1))

    def masks(self, r: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(r > 0.5, torch.ones_like(r), r), torch.where(r > 0.5, torch.zeros_like(r), r)

    def rebuild(self, a: Tensor, b: Tensor) -> Tensor:
        (a1, a2), (b1, b2) = a.chunk(2, 1), b.chunk(2, 1)
        return torch.cat([a1 + b2, a2 + b1], 1)

    def spatial(self, x: Tensor) -> Tensor:
        one, two = self.masks(self.score(x))
        return self.rebuild(one * x, two * x)

    def between(self, x: Tensor) -> Tensor:
        return x

    def transform(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.gwc(a) + self.pwc1(a), torch.cat([self.pwc2(b), b], 1)

    def attention(self, both: Tensor) -> Tensor:
        return F.softmax(F.adaptive_avg_pool2d(both, 1), dim=1)

    def fuse(self, y1: Tensor, y2: Tensor) -> Tensor:
        both = torch.cat([y1, y2], 1)
        left, right = (self.attention(both) * both).chunk(2, 1)
        return left + right

    def channel(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return self.fuse(*self.transform(self.up(a), self.low(b)))

    def forward(self, x: Tensor) -> Tensor:
        return self.channel(self.between(self.spatial(x)))


def changed(
    layers: Callable[[], dict[str, nn.Module]] | None = None, **methods: Callable[..., object]
) -> Callable[[], nn.Module]:
    """A maker of ``Plain`` with steps (functions of (self, ...)) and layers replaced."""

    def make() -> nn.Module:
        module: nn.Module = type("Copied", (Plain,), dict(methods))()
        for name, layer in (layers() if layers else {}).items():
            setattr(module, name, layer)
        return module

    return make


def importance_by(total: Callable[[Tensor], Tensor]) -> Callable[[Plain], Tensor]:
    return lambda self: self.gn.weight / total(self.gn.weight)


def score_by(function: Callable[[Tensor], Tensor]) -> Callable[[Plain, Tensor], Tensor]:
    return lambda self, x: function(self.norm(x) * self.importance().view(1, -1, 1, 1))


def soft(r: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(mask, torch.ones_like(r), r), torch.where(mask, torch.zeros_like(r), r)


def by_hand(divide: Callable[[Tensor], Tensor], dims: tuple[int, ...]) -> Callable[[Plain, Tensor], Tensor]:
    """(x - mean) / divide(x - mean) over ``dims`` of (N, 2, C/2, H, W), then the affine."""

    def norm(self: Plain, x: Tensor) -> Tensor:
        z = x.unflatten(1, (2, -1))
        z = z - z.mean(dims, keepdim=True)
        z = (z / divide(z)).flatten(1, 2)
        return z * self.gn.weight.view(-1, 1, 1) + self.gn.bias.view(-1, 1, 1)

    return norm


def fuse_with(weigh: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    def fuse(self: Plain, y1: Tensor, y2: Tensor) -> Tensor:
        p1, p2 = weigh(y1.mean((2, 3), keepdim=True), y2.mean((2, 3), keepdim=True))
        return p1 * y1 + p2 * y2

    return fuse


def attention_by(function: Callable[[Tensor], Tensor]) -> Callable[[Plain, Tensor], Tensor]:
    return lambda self, both: function(both)


def pooled(y: Tensor) -> Tensor:
    return y.mean((2, 3), keepdim=True)


class ThreeWay(Plain):
    """Half of the channels goes round the transforms."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.low = nn.Conv2d(C // 4, C // 4, 1), nn.Conv2d(C // 4, C // 4, 1)

    def channel(self, x: Tensor) -> Tensor:
        a, b, kept = x.split([C // 4, C // 4, C // 2], 1)
        return self.fuse(*self.transform(self.up(a), self.low(b))) + torch.cat([kept, kept], 1)


def shuffled(self: Plain, x: Tensor) -> Tensor:
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


Row = tuple[str, Callable[[], nn.Module]]

UNIT_BETWEEN: list[Row] = [
    ("BatchNorm between", changed(lambda: {"bn": nn.BatchNorm2d(C)}, between=lambda s, x: s.bn(x))),
    ("ReLU between", changed(between=lambda s, x: F.relu(x))),
    ("SiLU between", changed(between=lambda s, x: F.silu(x))),
    ("dropout that stays on", changed(between=lambda s, x: F.dropout(x, 0.5, training=True))),
    ("PReLU between", changed(lambda: {"act": nn.PReLU(C)}, between=lambda s, x: s.act(x))),
    ("channel shuffle between", changed(between=shuffled)),
    ("residual between", changed(forward=lambda s, x: s.channel(x + s.spatial(x)))),
    ("pooling between", changed(between=lambda s, x: F.avg_pool2d(x, 3, 1, 1))),
    ("residual around", changed(forward=lambda s, x: x + s.channel(s.spatial(x)))),
    ("scaled by 1.01", changed(forward=lambda s, x: 1.01 * s.channel(s.spatial(x)))),
    ("ReLU behind", changed(forward=lambda s, x: F.relu(s.channel(s.spatial(x))))),
]

GATES: list[Row] = [
    ("hard-sigmoid", changed(score=score_by(F.hardsigmoid))),
    ("tanh", changed(score=score_by(torch.tanh))),
    ("sigmoid of |s|", changed(score=score_by(lambda s: torch.sigmoid(s.abs())))),
    ("sigmoid of 2 s", changed(score=score_by(lambda s: torch.sigmoid(2 * s)))),
    ("softmax over positions", changed(score=score_by(lambda s: s.flatten(2).softmax(-1).view_as(s)))),
    ("s of the neighbour channel", changed(masks=lambda s, r: soft(r, r.roll(1, 1) > 0.5))),
    ("threshold per sample", changed(masks=lambda s, r: soft(r, r > r.mean((1, 2, 3), keepdim=True)))),
    (
        "threshold per channel",
        changed(masks=lambda s, r: soft(r, r > torch.linspace(0.4, 0.6, C, dtype=r.dtype)[:, None, None])),
    ),
    ("a band, not a half-line", changed(masks=lambda s, r: soft(r, (r > 0.5) & (r < 0.9)))),
    ("two thresholds", changed(masks=lambda s, r: (soft(r, r > 0.5)[0], soft(r, r > 0.45)[1]))),
    ("zero and r exchanged", changed(masks=lambda s, r: (r * (r > 0.5), r * (r > 0.5)))),
    ("r squared", changed(masks=lambda s, r: tuple(m * m for m in soft(r, r > 0.5)))),
    ("gamma over its maximum", changed(importance=importance_by(torch.max))),
    ("gamma over its mean", changed(importance=importance_by(torch.mean))),
    ("gamma over its L2 norm", changed(importance=importance_by(lambda g: g.norm()))),
    ("gamma squared over the sum", changed(importance=lambda s: s.gn.weight**2 / (s.gn.weight**2).sum())),
    ("beta as the weight", changed(importance=lambda s: s.gn.bias / (s.gn.bias.sum() + 1e-3))),
]

NORMS: list[Row] = [
    ("over rows only", changed(norm=by_hand(lambda z: z.std((2, 3), keepdim=True), (2, 3)))),
    (
        "instance norm, eps outside",
        changed(norm=by_hand(lambda z: z.std((3, 4), False, keepdim=True) + 1e-3, (3, 4))),
    ),
    ("layer norm over channels", changed(norm=by_hand(lambda z: z.std((1, 2), keepdim=True), (1, 2)))),
    ("batch norm over the batch", changed(norm=by_hand(lambda z: z.std((0, 3, 4), keepdim=True), (0, 3, 4)))),
    (
        "biased variance, eps outside the root",
        changed(norm=by_hand(lambda z: z.std((2, 3, 4), unbiased=False, keepdim=True) + 1e-3, (2, 3, 4))),
    ),
    (
        "unbiased variance, eps inside the root",
        changed(norm=by_hand(lambda z: (z.var((2, 3, 4), keepdim=True) + 1e-3).sqrt(), (2, 3, 4))),
    ),
    (
        "mean absolute deviation",
        changed(norm=by_hand(lambda z: z.abs().mean((2, 3, 4), keepdim=True), (2, 3, 4))),
    ),
    ("batch norm module", changed(lambda: {"gn": nn.BatchNorm2d(C)})),
]

CHANNEL: list[Row] = [
    ("max pooled", changed(attention=lambda s, y: F.softmax(F.adaptive_max_pool2d(y, 1), dim=1))),
    ("average and maximum", changed(attention=lambda s, y: F.softmax(pooled(y) + y.amax((2, 3), True), 1))),
    ("softmax over the batch", changed(attention=lambda s, y: pooled(y).softmax(0))),
    ("softmax with a temperature", changed(attention=lambda s, y: (pooled(y) / 0.7).softmax(1))),
    ("sigmoid for softmax", changed(attention=lambda s, y: pooled(y).sigmoid())),
    ("softmax per position", changed(attention=lambda s, y: y.softmax(1))),
    ("softmax times 2C", changed(attention=lambda s, y: 2 * C * pooled(y).softmax(1))),
    (
        "learned fusion weights",
        changed(
            lambda: {"mix": nn.Conv2d(2 * C, 2 * C, 1)}, attention=lambda s, y: s.mix(pooled(y)).softmax(1)
        ),
    ),
    ("softmax per branch", changed(fuse=fuse_with(lambda q1, q2: (q1.softmax(1), q2.softmax(1))))),
    (
        "weights exchanged",
        changed(fuse=fuse_with(lambda q1, q2: tuple(torch.cat([q2, q1], 1).softmax(1).chunk(2, 1)))),
    ),
    ("plain sum of branches", changed(fuse=lambda s, y1, y2: 0.5 * (y1 + y2))),
    ("product of branches", changed(fuse=lambda s, y1, y2: y1 * y2)),
    ("split in three", ThreeWay),
    (
        "identity forgotten",
        changed(transform=lambda s, a, b: (s.gwc(a) + s.pwc1(a), torch.cat([s.pwc2(b), a], 1))),
    ),
    (
        "GWC behind PWC1's ReLU",
        changed(transform=lambda s, a, b: (s.gwc(a) + F.relu(s.pwc1(a)), torch.cat([s.pwc2(b), b], 1))),
    ),
    (
        "shared squeeze output",
        changed(transform=lambda s, a, b: (s.gwc(a) + s.pwc1(b), torch.cat([s.pwc2(b), b], 1))),
    ),
]

REBUILT: list[Row] = [
    ("added in place", changed(rebuild=lambda s, a, b: a + b)),
    (
        "halves of the kept branch exchanged",
        changed(rebuild=lambda s, a, b: Plain.rebuild(s, a.roll(C // 2, 1), b)),
    ),
    ("difference for sum", changed(rebuild=lambda s, a, b: a - b.roll(C // 2, 1))),
    ("odd and even channels", changed(rebuild=lambda s, a, b: a + b.roll(1, 1))),
    ("rest dropped", changed(rebuild=lambda s, a, b: a)),
    ("output halves exchanged", changed(rebuild=lambda s, a, b: Plain.rebuild(s, a, b).roll(C // 2, 1))),
]

NEAR_MISSES: list[Row] = [*UNIT_BETWEEN, *GATES, *NORMS, *CHANNEL, *REBUILT]
