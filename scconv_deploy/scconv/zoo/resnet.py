"""Settings -> ResNet in its CIFAR form (3x3 stem, three stages) or ImageNet form (7x7 stem, four stages)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scconv_deploy.scconv.zoo.blocks import BasicBlock, Bottleneck
from scconv_deploy.scconv.zoo.settings import Settings

Block = type[BasicBlock] | type[Bottleneck]


class ResNet(nn.Module):
    """(N, in_channels, H, W) -> logits (N, num_classes).

    Args:
        block: basic or bottleneck.
        settings: widths, blocks per stage, and what the SCConv blocks are.
        imagenet_stem: 7x7 stride 2 and max pooling, instead of one 3x3.
        plain: dense 3x3 convolutions throughout.
    """

    def __init__(self, block: Block, settings: Settings, *, imagenet_stem: bool, plain: bool) -> None:
        super().__init__()
        width = settings.width
        if imagenet_stem:
            self.stem = nn.Sequential(
                nn.Conv2d(settings.in_channels, width, 7, 2, padding=3, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(3, 2, padding=1),
            )
        else:
            self.stem = nn.Sequential(
                nn.Conv2d(settings.in_channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
        stages, c_in = [], width
        for index, count in enumerate(settings.blocks):
            stage_width = width * 2**index
            blocks = []
            for position in range(count):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(c_in, stage_width, stride, None if plain else settings))
                c_in = stage_width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(c_in, settings.num_classes)
        self._initialise()

    def _initialise(self) -> None:
        # The norm's scale inside an SRU keeps its own start: it decides the gate.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Stem, stages, global average pooling, linear head."""
        x = self.stages(self.stem(x))
        logits: Tensor = self.head(torch.flatten(self.pool(x), 1))
        return logits
