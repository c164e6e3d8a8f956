# ruff: noqa: D101, D102 - a host model is kept the way users write it
"""A small ResNet whose bottlenecks hold an SCConv in place of the 3x3 (F3: soft gate, nn.GroupNorm).

Run it: ``python samples/hosts/resnet_f3.py --target onnx -o out/resnet_f3``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXAMPLE_SHAPE = (2, 3, 32, 32)


class SRU(nn.Module):
    def __init__(self, oup_channels: int, group_num: int = 4, gate_treshold: float = 0.5) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(num_channels=oup_channels, num_groups=group_num)
        self.gate_treshold = gate_treshold
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gn_x = self.gn(x)
        w_gamma = (self.gn.weight / sum(self.gn.weight)).view(1, -1, 1, 1)
        reweights = self.sigmoid(gn_x * w_gamma)
        w1 = torch.where(reweights > self.gate_treshold, torch.ones_like(reweights), reweights)
        w2 = torch.where(reweights > self.gate_treshold, torch.zeros_like(reweights), reweights)
        return self.reconstruct(w1 * x, w2 * x)

    def reconstruct(self, x_1: Tensor, x_2: Tensor) -> Tensor:
        x_11, x_12 = torch.split(x_1, x_1.size(1) // 2, dim=1)
        x_21, x_22 = torch.split(x_2, x_2.size(1) // 2, dim=1)
        return torch.cat([x_11 + x_22, x_12 + x_21], dim=1)


class CRU(nn.Module):
    def __init__(self, op_channel: int, alpha: float = 0.5, squeeze_radio: int = 2) -> None:
        super().__init__()
        self.up_channel = up = int(alpha * op_channel)
        self.low_channel = low = op_channel - up
        self.squeeze1 = nn.Conv2d(up, up // squeeze_radio, 1, bias=False)
        self.squeeze2 = nn.Conv2d(low, low // squeeze_radio, 1, bias=False)
        self.GWC = nn.Conv2d(up // squeeze_radio, op_channel, 3, padding=1, groups=2)
        self.PWC1 = nn.Conv2d(up // squeeze_radio, op_channel, 1, bias=False)
        self.PWC2 = nn.Conv2d(low // squeeze_radio, op_channel - low // squeeze_radio, 1, bias=False)
        self.advavg = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        up, low = torch.split(x, [self.up_channel, self.low_channel], dim=1)
        up, low = self.squeeze1(up), self.squeeze2(low)
        y1 = self.GWC(up) + self.PWC1(up)
        y2 = torch.cat([self.PWC2(low), low], dim=1)
        out = torch.cat([y1, y2], dim=1)
        out = F.softmax(self.advavg(out), dim=1) * out
        out1, out2 = torch.split(out, out.size(1) // 2, dim=1)
        return out1 + out2


class ScConv(nn.Module):
    def __init__(self, op_channel: int) -> None:
        super().__init__()
        self.SRU = SRU(op_channel)
        self.CRU = CRU(op_channel)

    def forward(self, x: Tensor) -> Tensor:
        x = self.SRU(x)
        return self.CRU(x)


class Bottleneck(nn.Module):
    expansion = 2

    def __init__(self, c_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.conv1 = nn.Conv2d(c_in, width, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = ScConv(width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = nn.Sequential(Bottleneck(16, 16), Bottleneck(32, 16))
        self.layer2 = nn.Sequential(Bottleneck(32, 32, stride=2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(x.mean((2, 3)))


def build() -> nn.Module:
    """The network with seeded random weights, in eval mode: (N, 3, H, W) -> (N, 10)."""
    torch.manual_seed(0)
    return ResNet().eval()


if __name__ == "__main__":
    from export_host import export_host

    export_host(build(), EXAMPLE_SHAPE, "resnet_f3")
