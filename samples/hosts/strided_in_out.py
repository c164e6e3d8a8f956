# ruff: noqa: D101, D102 - a host model is kept the way users write it
"""SCConv as a stage transition: in != out, uneven split, stride 2 on the squeezes (otherwise F3).

Run it: ``python samples/hosts/strided_in_out.py --target onnx -o out/strided_in_out``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLE_SHAPE = (2, 3, 32, 32)


class SRU(nn.Module):
    def __init__(self, channels: int, groups: int = 4, t: float = 0.5) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels)
        self.t = t

    def forward(self, x: Tensor) -> Tensor:
        w = (self.gn.weight / self.gn.weight.sum()).view(1, -1, 1, 1)
        r = torch.sigmoid(self.gn(x) * w)
        x1 = torch.where(r > self.t, torch.ones_like(r), r) * x
        x2 = torch.where(r > self.t, torch.zeros_like(r), r) * x
        half = x.size(1) // 2
        return torch.cat([x1[:, :half] + x2[:, half:], x1[:, half:] + x2[:, :half]], dim=1)


class CRU(nn.Module):
    """``c_in`` to ``c_out`` channels; both squeezes carry the stride."""

    def __init__(self, c_in: int, c_out: int, alpha: float = 0.75, ratio: int = 2, stride: int = 2) -> None:
        super().__init__()
        self.sizes = [int(alpha * c_in), c_in - int(alpha * c_in)]
        up, low = (size // ratio for size in self.sizes)
        self.squeeze_up = nn.Conv2d(self.sizes[0], up, 1, stride=stride)
        self.squeeze_low = nn.Conv2d(self.sizes[1], low, 1, stride=stride)
        self.gwc = nn.Conv2d(up, c_out, 3, padding=1, groups=2)
        self.pwc1 = nn.Conv2d(up, c_out, 1)
        self.pwc2 = nn.Conv2d(low, c_out - low, 1)

    def forward(self, x: Tensor) -> Tensor:
        up, low = torch.split(x, self.sizes, dim=1)
        up, low = self.squeeze_up(up), self.squeeze_low(low)
        y = torch.cat([self.gwc(up) + self.pwc1(up), self.pwc2(low), low], dim=1)
        y = y * F.softmax(y.mean((2, 3), keepdim=True), dim=1)
        c_out = y.size(1) // 2
        return y[:, :c_out] + y[:, c_out:]


class DownBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.scconv = nn.Sequential(SRU(c_in), CRU(c_in, c_out))
        self.bn = nn.BatchNorm2d(c_out)
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.scconv(x)) + self.skip(x))


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.down = nn.ModuleList([DownBlock(16, 32), DownBlock(32, 40)])
        self.head = nn.Linear(40, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.down:
            x = block(x)
        return self.head(x.flatten(2).mean(2))


def build() -> nn.Module:
    """The network with seeded random weights, in eval mode: (N, 3, 4h, 4w) -> (N, 5)."""
    torch.manual_seed(0)
    return Pyramid().eval()


if __name__ == "__main__":
    from export_host import export_host

    export_host(build(), EXAMPLE_SHAPE, "strided_in_out")
