# ruff: noqa: D101, D102 - a host model is kept the way users write it
"""An image restoration network: residual blocks with SCConv as the paper writes it (softmax over each pair).

Run it: ``python samples/hosts/restoration_paper.py --target onnx -o out/restoration_paper``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLE_SHAPE = (1, 3, 24, 24)


class SpatialReconstruction(nn.Module):
    """Equations 1 to 5: hard gate on the sigmoid of the weighted group norm."""

    def __init__(self, channels: int, groups: int = 4, threshold: float = 0.5) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        gamma = self.norm.weight
        w = torch.sigmoid(self.norm(x) * (gamma / gamma.sum())[None, :, None, None])
        w1 = (w > self.threshold).to(x.dtype)
        x1, x2 = w1 * x, (1.0 - w1) * x
        x11, x12 = x1.chunk(2, dim=1)
        x21, x22 = x2.chunk(2, dim=1)
        return torch.cat([x11 + x22, x12 + x21], dim=1)


class ChannelReconstruction(nn.Module):
    """Equations 6 to 9: split, transform, and fuse by a softmax over (Y1_c, Y2_c)."""

    def __init__(self, channels: int, squeeze: int = 2) -> None:
        super().__init__()
        half = channels // 2
        mid = half // squeeze
        self.squeeze = nn.ModuleList(nn.Conv2d(half, mid, 1, bias=False) for _ in range(2))
        self.gwc = nn.Conv2d(mid, channels, 3, padding=1, groups=2)
        self.pwc = nn.ModuleList(
            [nn.Conv2d(mid, channels, 1, bias=False), nn.Conv2d(mid, channels - mid, 1, bias=False)]
        )

    def forward(self, x: Tensor) -> Tensor:
        up, low = (conv(part) for conv, part in zip(self.squeeze, x.chunk(2, dim=1), strict=True))
        y1 = self.gwc(up) + self.pwc[0](up)
        y2 = torch.cat([self.pwc[1](low), low], dim=1)
        pooled = torch.stack([F.adaptive_avg_pool2d(y, 1) for y in (y1, y2)])
        beta = torch.softmax(pooled, dim=0)
        return beta[0] * y1 + beta[1] * y2


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            SpatialReconstruction(channels),
            ChannelReconstruction(channels),
        )
        self.scale = 0.2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x)


class Restorer(nn.Module):
    def __init__(self, channels: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, 3 * 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        f = self.head(x)
        return self.shuffle(self.tail(f + self.blocks(f)))


def build() -> nn.Module:
    """The network with seeded random weights, in eval mode: (N, 3, H, W) -> (N, 3, 2H, 2W)."""
    torch.manual_seed(0)
    return Restorer().eval()


if __name__ == "__main__":
    from export_host import export_host

    export_host(build(), EXAMPLE_SHAPE, "restoration_paper")
