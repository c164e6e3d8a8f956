"""Settings -> residual blocks whose 3x3 convolutions are dense or SCConv.

Where the 3x3 is replaced: everywhere it keeps its number of channels. That is the middle 3x3 of every
bottleneck block, and both 3x3 of a basic block except the first one of a block that doubles the channels,
which stays dense with its stride (no family of SCConv changes the number of channels).

How stride 2 is done: an SCConv has no stride, so ``AvgPool2d(2)`` stands before it (bottleneck blocks). It
floors odd sizes while the strided 1x1 of the shortcut rounds them up, so such a network takes only H and W
that are even where they reach that block (multiples of 32 always are, in the ImageNet form). Networks of
basic blocks take any size.
"""

from __future__ import annotations

from torch import Tensor, nn

from scconv_deploy.scconv.reference.families import scconv
from scconv_deploy.scconv.zoo.settings import Settings


def conv3x3(c_in: int, c_out: int, stride: int, scconv_settings: Settings | None) -> nn.Module:
    """A 3x3 convolution, or its SCConv replacement where the channels stay (see the module's text)."""
    if scconv_settings is None or c_in != c_out:
        return nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
    s = scconv_settings
    block = scconv(
        s.family,
        c_out,
        groups=s.groups,
        threshold=s.threshold,
        alpha=s.alpha,
        squeeze=s.squeeze,
        gwc_groups=s.gwc_groups,
        gwc_kernel=s.gwc_kernel,
    )
    return block if stride == 1 else nn.Sequential(nn.AvgPool2d(stride), block)


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    """Identity, or the strided 1x1 projection with BN (option B of the ResNet paper)."""
    if c_in == c_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: (N, c_in, H, W) -> (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int, scconv_settings: Settings | None) -> None:
        super().__init__()
        self.conv1 = conv3x3(c_in, width, stride, scconv_settings)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, 1, scconv_settings)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.shortcut = shortcut(c_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``relu(shortcut(x) + bn(conv(relu(bn(conv(x))))))``."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1: (N, c_in, H, W) -> (N, 4*width, H/stride, W/stride); the stride is in the 3x3."""

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int, scconv_settings: Settings | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, scconv_settings)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU()
        self.shortcut = shortcut(c_in, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Reduce, convolve, expand, add."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out
