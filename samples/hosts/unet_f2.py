# ruff: noqa: D101, D102 - a host model is kept the way users write it
"""A U-Net whose skip connection passes through an SCConv (F2: the normalised input is what is gated).

Run it: ``python samples/hosts/unet_f2.py --target onnx -o out/unet_f2``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLE_SHAPE = (2, 1, 32, 32)


class GroupBatchnorm2d(nn.Module):
    def __init__(self, c_num: int, group_num: int = 4, eps: float = 1e-10) -> None:
        super().__init__()
        assert c_num >= group_num
        self.group_num = group_num
        self.weight = nn.Parameter(torch.randn(c_num, 1, 1))
        self.bias = nn.Parameter(torch.zeros(c_num, 1, 1))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        x = x.reshape(n, self.group_num, -1)
        x = (x - x.mean(dim=2, keepdim=True)) / (x.std(dim=2, keepdim=True) + self.eps)
        return x.reshape(n, c, h, w) * self.weight + self.bias


class SpatialUnit(nn.Module):
    def __init__(self, channels: int, group_num: int = 4, gate: float = 0.5) -> None:
        super().__init__()
        self.gn = GroupBatchnorm2d(channels, group_num)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        gn_x = self.gn(x)
        weight = self.gn.weight / torch.sum(self.gn.weight)
        reweights = torch.sigmoid(gn_x * weight)
        informative = (reweights >= self.gate) * gn_x
        rest = (reweights < self.gate) * gn_x
        a1, a2 = informative.chunk(2, dim=1)
        b1, b2 = rest.chunk(2, dim=1)
        return torch.cat([a1 + b2, a2 + b1], dim=1)


class ChannelUnit(nn.Module):
    def __init__(self, channels: int, alpha: float = 0.5, squeeze: int = 2) -> None:
        super().__init__()
        self.up = int(alpha * channels)
        self.low = channels - self.up
        self.up_squeeze_conv = nn.Conv2d(self.up, self.up // squeeze, 1, bias=False)
        self.low_squeeze_conv = nn.Conv2d(self.low, self.low // squeeze, 1, bias=False)
        self.group_conv = nn.Conv2d(self.up // squeeze, channels, 3, padding=1, groups=2)
        self.point_conv1 = nn.Conv2d(self.up // squeeze, channels, 1, bias=False)
        self.point_conv2 = nn.Conv2d(self.low // squeeze, channels - self.low // squeeze, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        up, low = x.split([self.up, self.low], dim=1)
        up, low = self.up_squeeze_conv(up), self.low_squeeze_conv(low)
        y1 = self.group_conv(up) + self.point_conv1(up)
        y2 = torch.cat([self.point_conv2(low), low], dim=1)
        y = torch.cat([y1, y2], dim=1)
        y1, y2 = (y * F.softmax(F.adaptive_avg_pool2d(y, 1), dim=1)).chunk(2, dim=1)
        return y1 + y2


class DoubleConv(nn.Sequential):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.enc = DoubleConv(1, width)
        self.bottom = DoubleConv(width, 2 * width)
        self.skip = nn.Sequential(SpatialUnit(width), ChannelUnit(width))
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec = DoubleConv(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        e = self.enc(x)
        b = self.bottom(F.max_pool2d(e, 2))
        return self.head(self.dec(torch.cat([self.up(b), self.skip(e)], dim=1)))


def build() -> nn.Module:
    """The network with seeded random weights, in eval mode: (N, 1, H, W) -> (N, 2, H, W); H and W even."""
    torch.manual_seed(0)
    return UNet().eval()


if __name__ == "__main__":
    from export_host import export_host

    export_host(build(), EXAMPLE_SHAPE, "unet_f2")
