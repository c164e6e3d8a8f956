# ruff: noqa: D101, D102, D103 - a host model is kept the way users write it
"""A YOLO-style detector: C2f and C3k2 in a top-down neck, Bottleneck_ScConv inside (F1: hard gate).

Run it: ``python samples/hosts/yolo_neck_f1.py --target onnx -o out/yolo_neck_f1``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLE_SHAPE = (2, 3, 64, 64)


def autopad(k: int, p: int | None = None) -> int:
    return k // 2 if p is None else p


class Conv(nn.Module):
    """Convolution, batch normalisation, SiLU."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, autopad(k), groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class GroupBatchnorm2d(nn.Module):
    def __init__(self, c_num: int, group_num: int = 16, eps: float = 1e-10) -> None:
        super().__init__()
        self.group_num = group_num
        self.gamma = nn.Parameter(torch.randn(c_num, 1, 1))
        self.beta = nn.Parameter(torch.zeros(c_num, 1, 1))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        x = x.view(n, self.group_num, -1)
        mean = x.mean(dim=2, keepdim=True)
        std = x.std(dim=2, keepdim=True)
        x = (x - mean) / (std + self.eps)
        return x.view(n, c, h, w) * self.gamma + self.beta


class SRU(nn.Module):
    def __init__(self, oup_channels: int, group_num: int = 16, gate_treshold: float = 0.5) -> None:
        super().__init__()
        self.gn = GroupBatchnorm2d(oup_channels, group_num=group_num)
        self.gate_treshold = gate_treshold
        self.sigomid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gn_x = self.gn(x)
        w_gamma = self.gn.gamma / sum(self.gn.gamma)
        reweigts = self.sigomid(gn_x * w_gamma)
        info_mask = reweigts >= self.gate_treshold
        noninfo_mask = reweigts < self.gate_treshold
        return self.reconstruct(info_mask * x, noninfo_mask * x)

    def reconstruct(self, x_1: Tensor, x_2: Tensor) -> Tensor:
        x_11, x_12 = torch.split(x_1, x_1.size(1) // 2, dim=1)
        x_21, x_22 = torch.split(x_2, x_2.size(1) // 2, dim=1)
        return torch.cat([x_11 + x_22, x_12 + x_21], dim=1)


class CRU(nn.Module):
    def __init__(self, op_channel: int, alpha: float = 0.5, squeeze_radio: int = 2) -> None:
        super().__init__()
        self.up_channel = up = int(alpha * op_channel)
        self.low_channel = low = op_channel - up
        self.squeeze1 = nn.Conv2d(up, up // squeeze_radio, kernel_size=1, bias=False)
        self.squeeze2 = nn.Conv2d(low, low // squeeze_radio, kernel_size=1, bias=False)
        self.GWC = nn.Conv2d(up // squeeze_radio, op_channel, kernel_size=3, padding=1, groups=2)
        self.PWC1 = nn.Conv2d(up // squeeze_radio, op_channel, kernel_size=1, bias=False)
        c_rest = op_channel - low // squeeze_radio
        self.PWC2 = nn.Conv2d(low // squeeze_radio, c_rest, kernel_size=1, bias=False)
        self.advavg = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        up, low = torch.split(x, [self.up_channel, self.low_channel], dim=1)
        up, low = self.squeeze1(up), self.squeeze2(low)
        out = torch.cat([self.GWC(up) + self.PWC1(up), self.PWC2(low), low], dim=1)
        out = F.softmax(self.advavg(out), dim=1) * out
        out1, out2 = torch.split(out, out.size(1) // 2, dim=1)
        return out1 + out2


class ScConv(nn.Module):
    def __init__(self, op_channel: int) -> None:
        super().__init__()
        self.SRU = SRU(op_channel)
        self.CRU = CRU(op_channel)

    def forward(self, x: Tensor) -> Tensor:
        return self.CRU(self.SRU(x))


class Bottleneck_ScConv(nn.Module):  # noqa: N801 - its name in every copy
    def __init__(self, c1: int, c2: int, shortcut: bool = True, e: float = 1.0) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 3)
        self.cv2 = ScConv(hidden)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C2f(nn.Module):
    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        self.c = c2 // 2
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv((2 + n) * self.c, c2)
        self.m = nn.ModuleList(Bottleneck_ScConv(self.c, self.c, shortcut) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class C3k(nn.Module):
    def __init__(self, c1: int, c2: int, n: int = 1) -> None:
        super().__init__()
        c_ = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_), Conv(c1, c_), Conv(2 * c_, c2)
        self.m = nn.Sequential(*(Bottleneck_ScConv(c_, c_) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C3k2(C2f):
    def __init__(self, c1: int, c2: int, n: int = 1) -> None:
        super().__init__(c1, c2, n)
        self.m = nn.ModuleList(C3k(self.c, self.c) for _ in range(n))


class Detector(nn.Module):
    """A stem at strides 4, 8 and 16, a top-down neck, and one 1x1 head per level."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2))
        self.down1, self.down2 = Conv(32, 32, 3, 2), Conv(32, 64, 3, 2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.c2f = C2f(96, 32, n=1, shortcut=True)
        self.c3k2 = C3k2(64, 64, n=1)
        self.heads = nn.ModuleList(nn.Conv2d(c, 4 + classes, 1) for c in (32, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p3 = self.down1(self.stem(x))
        p4 = self.c3k2(self.down2(p3))
        p3 = self.c2f(torch.cat([self.up(p4), p3], 1))
        return self.heads[0](p3), self.heads[1](p4)


def build() -> nn.Module:
    """The detector with seeded random weights, in eval mode: two maps, at strides 8 and 16."""
    torch.manual_seed(0)
    return Detector().eval()


if __name__ == "__main__":
    from export_host import export_host

    export_host(build(), EXAMPLE_SHAPE, "yolo_neck_f1")
