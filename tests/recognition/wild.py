"""SCConv blocks as users write them: odd names, other spellings, written from the formulas for these tests.

Every class here computes one row of what public copies do; names deliberately lie or say nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelGroupNormalizer(nn.Module):
    """Group-std norm: unbiased std, eps outside the root, groups cut from the flat vector."""

    def __init__(
        self, num: int, parts: int = 16, tiny: float = 1e-10, scale: str = "gamma", shift: str = "beta"
    ):
        super().__init__()
        self.parts = parts
        self.tiny = tiny
        self.keys = (scale, shift)
        setattr(self, scale, nn.Parameter(torch.randn(num, 1, 1)))
        setattr(self, shift, nn.Parameter(torch.zeros(num, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        z = x.view(n, self.parts, -1)
        z = (z - z.mean(dim=2, keepdim=True)) / (z.std(dim=2, keepdim=True) + self.tiny)
        return z.view(n, c, h, w) * getattr(self, self.keys[0]) + getattr(self, self.keys[1])


class StaticMaskUnit(nn.Module):
    """F0: the softmax of gamma is the mask, and the sigmoid multiplies both parts."""

    def __init__(self, ch: int, parts: int = 16, limit: float = 0.5):
        super().__init__()
        self.norm = ChannelGroupNormalizer(ch, parts)
        self.limit = limit
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        importance = F.softmax(self.norm.gamma, dim=0)
        r = self.act(y * importance)
        strong, weak = importance > self.limit, importance <= self.limit
        return mix(strong * r * x, weak * r * x)


def mix(a: Tensor, b: Tensor) -> Tensor:
    a1, a2 = a.chunk(2, 1)
    b1, b2 = b.chunk(2, 1)
    return torch.cat((a1 + b2, a2 + b1), 1)


class HardUnit(nn.Module):
    """F1 (or F2 with ``on_norm``): hard gate with >= and <."""

    def __init__(self, ch: int, parts: int = 16, gate_t: float = 0.5, on_norm: bool = False):
        super().__init__()
        self.bn = ChannelGroupNormalizer(ch, parts)
        self.gate_t = gate_t
        self.on_norm = on_norm

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        w = self.bn.gamma / sum(self.bn.gamma)
        r = torch.sigmoid(y * w)
        target = y if self.on_norm else x
        return mix((r >= self.gate_t) * target, (r < self.gate_t) * target)


class SoftUnit(nn.Module):
    """F3: nn.GroupNorm and where."""

    def __init__(self, ch: int, groups: int = 4, thr: float = 0.5):
        super().__init__()
        self.layer1 = nn.GroupNorm(num_channels=ch, num_groups=groups)
        self.thr = thr

    def forward(self, inp: Tensor) -> Tensor:
        normed = self.layer1(inp)
        w = (self.layer1.weight / sum(self.layer1.weight)).view(1, -1, 1, 1)
        r = (normed * w).sigmoid()
        one = torch.where(r > self.thr, torch.ones_like(r), r)
        two = torch.where(r > self.thr, torch.zeros_like(r), r)
        return mix(one * inp, two * inp)


class ThresholdParameterUnit(nn.Module):
    """Soft gate, threshold kept as a scalar Parameter."""

    def __init__(self, ch: int, value: float = 0.5):
        super().__init__()
        self.g = nn.GroupNorm(2, ch)
        self.cut = nn.Parameter(torch.tensor(value), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        r = torch.sigmoid(self.g(x) * (self.g.weight / self.g.weight.sum())[:, None, None])
        return mix(
            torch.where(r > self.cut, torch.ones_like(r), r) * x,
            torch.where(r > self.cut, torch.zeros_like(r), r) * x,
        )


class ComplementUnit(nn.Module):
    """where(r >= t, 1, r) and where(r < t, 0, r); absolute sum with an added eps."""

    def __init__(self, ch: int, groups: int = 4, threshold: float = 0.5, add: float = 1e-5):
        super().__init__()
        self.gn = nn.GroupNorm(groups, ch, eps=1e-6)
        self.threshold = threshold
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        g = self.gn.weight
        r = torch.sigmoid(self.gn(x) * (g / (g.abs().sum() + self.add)).reshape(1, -1, 1, 1))
        up = torch.where(r >= self.threshold, torch.ones_like(r), r)
        down = torch.where(r < self.threshold, torch.zeros_like(r), r)
        return mix(up * x, down * x)


class WithinUnit(nn.Module):
    """Clamped sum; halves added within each branch; own affine parameters and functional group_norm."""

    def __init__(self, ch: int, groups: int = 2):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1, ch, 1, 1))
        self.m = nn.Parameter(torch.ones(1, ch, 1, 1))
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        y = F.group_norm(x, self.groups) * self.m + self.a
        r = torch.sigmoid(y * self.m / self.m.sum().clamp(min=1e-6))
        keep = (r > 0.5).to(x.dtype)
        a1, a2 = (keep * x).chunk(2, 1)
        b1, b2 = ((1 - keep) * x).chunk(2, 1)
        return torch.cat([a1 + a2, b1 + b2], 1)


class TwoBranch(nn.Module):
    """CRU with every integer free; ``pairwise`` for equation 8, ``flip`` for [low, PWC2]."""

    def __init__(
        self,
        cin: int,
        cout: int | None = None,
        ratio: float = 0.5,
        sq: int = 2,
        k: int = 3,
        g: int = 2,
        stride: int = 1,
        pairwise: bool = False,
        flip: bool = False,
        bias: bool = False,
        full: bool = False,
        mode: str = "zeros",
    ):
        super().__init__()
        cout = cout or cin
        self.n1 = int(ratio * cin)
        self.n2 = cin - self.n1
        s1, s2 = self.n1 // sq, self.n2 // sq
        self.c1 = nn.Conv2d(self.n1, s1, 1, stride=stride, bias=bias)
        self.c2 = nn.Conv2d(self.n2, s2, 1, stride=stride, bias=bias)
        self.c3 = nn.Conv2d(s1, cout, k, padding=k // 2, groups=g, padding_mode=mode)
        self.c4 = nn.Conv2d(s1, cout, 1, bias=False)
        self.c5 = nn.Conv2d(s2, cout if full else cout - s2, 1, bias=bias)
        self.pairwise, self.flip, self.full = pairwise, flip, full

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [self.n1, self.n2], dim=1)
        a, b = self.c1(a), self.c2(b)
        y1 = self.c3(a) + self.c4(a)
        y2 = self.c5(b)
        if not self.full:
            y2 = torch.cat([b, y2] if self.flip else [y2, b], dim=1)
        if self.pairwise:
            p = torch.stack([y1.mean((2, 3)), y2.mean((2, 3))]).softmax(0)[..., None, None]
            return p[0] * y1 + p[1] * y2
        both = torch.cat([y1, y2], 1)
        both = F.softmax(F.adaptive_avg_pool2d(both, 1), dim=1) * both
        left, right = both.chunk(2, 1)
        return left + right


class LowFirst(TwoBranch):
    """The lower branch is computed first; both squeezes have the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        b = self.c1(x[:, self.n1 :])
        a = self.c2(x[:, : self.n1])
        y = torch.cat([self.c4(a) + self.c3(a), self.c5(b), b], 1)
        y = y.mean((2, 3), keepdim=True).softmax(1) * y
        left, right = y.chunk(2, 1)
        return right + left


class Both(nn.Module):
    """Two units one after the other, with optional things between that make it something else."""

    def __init__(self, first: nn.Module, second: nn.Module, between: nn.Module | None = None):
        super().__init__()
        self.s = first
        self.t = second
        self.mid = between

    def forward(self, x: Tensor) -> Tensor:
        x = self.s(x)
        if self.mid is not None:
            x = self.mid(x)
        return self.t(x)


class FlatEverything(nn.Module):
    """One flat class: functional convolutions and raw parameters, beta declared before gamma."""

    def __init__(self, c: int = 16):
        super().__init__()
        h, q = c // 2, c // 4
        self.p1 = nn.Parameter(torch.zeros(c))
        self.p0 = nn.Parameter(torch.ones(c))
        self.k = nn.ParameterList(
            [
                nn.Parameter(torch.randn(*s) * 0.2)
                for s in ((q, h, 1, 1), (q, h, 1, 1), (c, q // 2, 3, 3), (c, q, 1, 1), (c - q, q, 1, 1))
            ]
        )
        self.offset = nn.Parameter(torch.randn(c))

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        z = x.reshape(n, 4, -1)
        z = (z - z.mean(-1, keepdim=True)) / torch.sqrt(z.var(-1, unbiased=False, keepdim=True) + 1e-3)
        y = z.reshape(n, c, height, width) * self.p0.view(1, c, 1, 1) + self.p1.view(1, c, 1, 1)
        s = y * (self.p0 / self.p0.sum()).view(1, c, 1, 1)
        x = mix(torch.where(s > 0, x, 0), torch.where(s > 0, 0, x))
        a, b = x.chunk(2, 1)
        a, b = F.conv2d(a, self.k[0]), F.conv2d(b, self.k[1])
        y1 = F.conv2d(a, self.k[2], self.offset, padding=1, groups=2) + F.conv2d(a, self.k[3])
        y = torch.cat([y1, F.conv2d(b, self.k[4]), b], 1)
        y = y * torch.softmax(y.mean((2, 3), keepdim=True), 1)
        return y[:, :c] + y[:, c:]


class DeadWeight(nn.Module):
    """An SCConv with an unused convolution and an unused unit."""

    def __init__(self, c: int = 16):
        super().__init__()
        self.unused = nn.Conv2d(c, c, 3)
        self.block = Both(SoftUnit(c), TwoBranch(c))
        self.old = SoftUnit(c)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


# Near misses ------------------------------------------------------------------------------------------


class PerSampleThreshold(SoftUnit):
    def forward(self, inp: Tensor) -> Tensor:
        normed = self.layer1(inp)
        r = torch.sigmoid(normed * (self.layer1.weight / self.layer1.weight.sum()).view(1, -1, 1, 1))
        t = r.mean((1, 2, 3), keepdim=True)
        return mix(
            torch.where(r > t, torch.ones_like(r), r) * inp, torch.where(r > t, torch.zeros_like(r), r) * inp
        )


class MaxPooled(TwoBranch):
    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [self.n1, self.n2], dim=1)
        a, b = self.c1(a), self.c2(b)
        both = torch.cat([self.c3(a) + self.c4(a), self.c5(b), b], 1)
        both = F.softmax(F.adaptive_max_pool2d(both, 1), dim=1) * both
        left, right = both.chunk(2, 1)
        return left + right


class LearnedFusion(TwoBranch):
    """Softmax of pooled values times a learned scalar."""

    def __init__(self, cin: int):
        super().__init__(cin)
        self.tau = nn.Parameter(torch.tensor(1.3))

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [self.n1, self.n2], dim=1)
        a, b = self.c1(a), self.c2(b)
        both = torch.cat([self.c3(a) + self.c4(a), self.c5(b), b], 1)
        both = F.softmax(F.adaptive_avg_pool2d(both, 1) * self.tau, dim=1) * both
        left, right = both.chunk(2, 1)
        return left + right


class BuildsInForward(TwoBranch):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.Conv2d(x.shape[1], x.shape[1], 1).to(x)(x))


class LazyLayer(TwoBranch):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "extra"):
            self.extra = nn.Parameter(torch.ones(1, x.shape[1], 1, 1, dtype=x.dtype))
        return super().forward(x * self.extra)


class AlwaysDropout(SoftUnit):
    def forward(self, inp: Tensor) -> Tensor:
        return F.dropout(super().forward(inp), 0.1, training=True)


class Counting(SoftUnit):
    """Stateful: the output depends on how often it was called."""

    def __init__(self, ch: int):
        super().__init__(ch)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inp: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(inp) * (1 + 1e-3 * self.calls)


class OneDimensional(nn.Module):
    def __init__(self, ch: int):
        super().__init__()
        self.gn = nn.GroupNorm(4, ch)

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 3
        r = torch.sigmoid(self.gn(x) * (self.gn.weight / self.gn.weight.sum()).view(1, -1, 1))
        return mix((r >= 0.5) * x, (r < 0.5) * x)


class SCConv(nn.Module):
    """Self-Calibrated Convolution (CVPR 2020): same name, another thing."""

    def __init__(self, ch: int = 16):
        super().__init__()
        self.k2 = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(ch, ch, 3, padding=1, bias=False), nn.BatchNorm2d(ch)
        )
        self.k3 = nn.Sequential(nn.Conv2d(ch, ch, 3, padding=1, bias=False), nn.BatchNorm2d(ch))
        self.k4 = nn.Sequential(nn.Conv2d(ch, ch, 3, padding=1, bias=False), nn.BatchNorm2d(ch))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.sigmoid(x + F.interpolate(self.k2(x), x.shape[2:]))
        return self.k4(self.k3(x) * out)


class SRU(nn.Module):
    """Simple Recurrent Unit: same name, another thing."""

    def __init__(self, ch: int = 16):
        super().__init__()
        self.proj = nn.Linear(ch, 3 * ch)
        self.v = nn.Parameter(torch.randn(ch))
        self.b = nn.Parameter(torch.randn(ch))

    def forward(self, x: Tensor) -> Tensor:
        z, f, r = self.proj(x).chunk(3, -1)
        c = torch.zeros_like(z[:, 0])
        out = []
        for t in range(x.shape[1]):
            gate = torch.sigmoid(f[:, t] + self.v * c + self.b)
            c = gate * c + (1 - gate) * z[:, t]
            out.append(torch.sigmoid(r[:, t]) * c)
        return torch.stack(out, 1)


class OddUnit(nn.Module):
    """Odd channels: the halves overlap in the middle channel."""

    def __init__(self, ch: int):
        super().__init__()
        self.gn = nn.GroupNorm(3, ch)

    def forward(self, x: Tensor) -> Tensor:
        r = torch.sigmoid(self.gn(x) * (self.gn.weight / self.gn.weight.sum()).view(1, -1, 1, 1))
        return (r > 0.5) * x + ((r <= 0.5) * x).flip(1)


class Scaled(nn.Module):
    """The inner module's layers, its output scaled and shifted; the inner module is called as a function."""

    def __init__(self, inner: SoftUnit, by: float, plus: float = 0.0):
        super().__init__()
        self.layer1 = inner.layer1
        self.thr = inner.thr
        self.by, self.plus = by, plus

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = SoftUnit.forward(self, x)  # type: ignore[arg-type]
        return out * self.by + self.plus
