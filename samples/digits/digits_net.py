"""A digits classifier with SCConv blocks, as a user would have it: one self-contained file, own names.

Family F3: soft gate, ``nn.GroupNorm``, one softmax over all 2C channels. ``pickled.pt`` is an instance of
``DigitsNet``; loading it needs this file (``--trust digits_net``).
"""

import torch
import torch.nn.functional as F
from torch import nn


class GroupBatchnorm2d(nn.Module):
    def __init__(self, c_num, group_num=16, eps=1e-10):
        super().__init__()
        assert c_num >= group_num
        self.group_num = group_num
        self.weight = nn.Parameter(torch.randn(c_num, 1, 1))
        self.bias = nn.Parameter(torch.zeros(c_num, 1, 1))
        self.eps = eps

    def forward(self, x):
        N, C, H, W = x.size()
        x = x.view(N, self.group_num, -1)
        x = (x - x.mean(dim=2, keepdim=True)) / (x.std(dim=2, keepdim=True) + self.eps)
        return x.view(N, C, H, W) * self.weight + self.bias


class SRU(nn.Module):
    def __init__(self, oup_channels, group_num=4, gate_treshold=0.5, torch_gn=True):
        super().__init__()
        if torch_gn:
            self.gn = nn.GroupNorm(num_channels=oup_channels, num_groups=group_num)
        else:
            self.gn = GroupBatchnorm2d(c_num=oup_channels, group_num=group_num)
        self.gate_treshold = gate_treshold
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        gn_x = self.gn(x)
        w_gamma = (self.gn.weight / sum(self.gn.weight)).view(1, -1, 1, 1)
        r = self.sigmoid(gn_x * w_gamma)
        w1 = torch.where(r > self.gate_treshold, torch.ones_like(r), r)
        w2 = torch.where(r > self.gate_treshold, torch.zeros_like(r), r)
        return self.reconstruct(w1 * x, w2 * x)

    def reconstruct(self, a, b):
        a1, a2 = torch.split(a, a.size(1) // 2, dim=1)
        b1, b2 = torch.split(b, b.size(1) // 2, dim=1)
        return torch.cat([a1 + b2, a2 + b1], dim=1)


class CRU(nn.Module):
    def __init__(self, op_channel, alpha=1 / 2, squeeze_radio=2, group_size=2, group_kernel_size=3):
        super().__init__()
        self.up_channel = up = int(alpha * op_channel)
        self.low_channel = low = op_channel - up
        self.squeeze1 = nn.Conv2d(up, up // squeeze_radio, 1, bias=False)
        self.squeeze2 = nn.Conv2d(low, low // squeeze_radio, 1, bias=False)
        self.GWC = nn.Conv2d(
            up // squeeze_radio,
            op_channel,
            group_kernel_size,
            padding=group_kernel_size // 2,
            groups=group_size,
        )
        self.PWC1 = nn.Conv2d(up // squeeze_radio, op_channel, 1, bias=False)
        self.PWC2 = nn.Conv2d(low // squeeze_radio, op_channel - low // squeeze_radio, 1, bias=False)
        self.advavg = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        up, low = torch.split(x, [self.up_channel, self.low_channel], dim=1)
        up, low = self.squeeze1(up), self.squeeze2(low)
        Y1 = self.GWC(up) + self.PWC1(up)
        Y2 = torch.cat([self.PWC2(low), low], dim=1)
        out = torch.cat([Y1, Y2], dim=1)
        out = F.softmax(self.advavg(out), dim=1) * out
        out1, out2 = torch.split(out, out.size(1) // 2, dim=1)
        return out1 + out2


class ScConv(nn.Module):
    def __init__(self, op_channel, group_num=4):
        super().__init__()
        self.SRU = SRU(op_channel, group_num=group_num)
        self.CRU = CRU(op_channel)

    def forward(self, x):
        return self.CRU(self.SRU(x))


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.sc1 = ScConv(channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.sc2 = ScConv(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.sc1(x)))
        return F.relu(x + self.bn2(self.sc2(y)))


class DigitsNet(nn.Module):
    def __init__(self, width=16, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.layer1 = Block(width)
        self.down = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.layer2 = Block(2 * width)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = self.layer2(self.down(self.layer1(self.stem(x))))
        return self.fc(x.mean(dim=(2, 3)))
