"""Near misses whose forward is the trouble: it branches on values, counts, draws, casts, builds layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.recognition.near_misses import C, Plain, Row, changed, soft


def data_dependent(self: Plain, x: Tensor) -> Tensor:
    y = self.spatial(x)
    return self.channel(y if x.mean() > 0 else 0.5 * y)


def rarely_different(self: Plain, x: Tensor) -> Tensor:
    y = self.channel(self.spatial(x))
    return y if x.amax() < 6.0 else y.clamp(max=6.0)


def in_float32(self: Plain, x: Tensor) -> Tensor:
    """The usual cast for autocast's sake: the norm and the gate in float32, the rest as it comes."""
    y = F.group_norm(x.float(), 2, self.gn.weight.float(), self.gn.bias.float())
    r = torch.sigmoid(y * self.importance().float().view(1, -1, 1, 1))
    one, two = self.masks(r)
    return self.rebuild(one * x, two * x)


class Counter(Plain):
    """Counts its calls in a plain attribute that no tensor shows, and acts on it from the third on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return super().forward(x) * (1.0 + 1e-3 * self.seen)


class LateCounter(Counter):
    """Acts long after any trial."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        y = Plain.forward(self, x)
        return y if self.seen < 100_000 else 2 * y


class KeepsSizes(Plain):
    """Harmless: remembers the last input's size."""

    def forward(self, x: Tensor) -> Tensor:
        self.last_height, self.last_width = x.shape[2], x.shape[3]
        return super().forward(x)


FORWARDS: list[Row] = [
    ("another path for dark images", changed(forward=data_dependent)),
    ("clipped where bright", changed(forward=rarely_different)),
    ("clamped to [-6, 6]", changed(forward=lambda s, x: s.channel(s.spatial(x)).clamp(-6.0, 6.0))),
    ("input clamped at -2", changed(forward=lambda s, x: s.channel(s.spatial(x.clamp(min=-2.0))))),
    ("gate in float32", changed(spatial=in_float32)),
    ("counts its calls", Counter),
    ("counts its calls, to act later", LateCounter),
    ("random gate", changed(masks=lambda s, r: soft(r, r > torch.rand_like(r)))),
    ("noise on the logit", changed(score=lambda s, x: Plain.score(s, x + 1e-3 * torch.randn_like(x)))),
    ("a layer built in forward", changed(between=lambda s, x: nn.Conv2d(C, C, 1).to(x)(x))),
    ("a list for a tensor", changed(forward=lambda s, x: [s.channel(s.spatial(x))])),
]
