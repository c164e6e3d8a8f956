"""A network and an input shape -> parameters, multiply-accumulates and element-wise operations.

Counted by forward hooks on a copy without storage (the meta device), so a ResNet-101 costs milliseconds.
"FLOPs" in the SCConv paper, as in most of the field, are multiply-accumulates (MACs) of convolutions and
linear layers: a plain ResNet-50 has 4.09 G of them at 224x224. The element-wise work of SRU and fuse, which
such tables leave out and which decides the speed, is counted apart.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from scconv_deploy.scconv.reference.units import ReferenceCRU, ReferenceSCConv, ReferenceSRU

SRU_OPS_PER_ELEMENT = 11
"""Per element of x: sum, sum of squares (2), subtract, scale, shift (3), times w, sigmoid, compare (3), two
products with the branches' weights (2), one add of the cross-reconstruction."""

FUSE_OPS_PER_ELEMENT = 6
"""Per element of the output: pooling of Y1 and Y2 (2), their weighting (2), their sum and GWC + PWC1 (2)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of one network at one input shape; ``elementwise`` counts SRU and fuse only."""

    parameters: int
    macs: int
    elementwise: int
    scconv_blocks: int


def count(model: nn.Module, sample_shape: tuple[int, ...]) -> Counts:
    """Count ``model`` on one sample of shape ``sample_shape`` (no batch axis). The model is not changed.

    Modules that are neither convolution nor linear nor one of the reference units count nothing.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    macs, elementwise = 0, 0

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, elementwise
        if isinstance(module, nn.Conv2d):
            taps = prod(module.kernel_size) * module.in_channels // module.groups
            macs += taps * output.numel()
        elif isinstance(module, nn.Linear):
            macs += module.in_features * output.numel()
        elif isinstance(module, ReferenceSRU):
            elementwise += SRU_OPS_PER_ELEMENT * inputs[0].numel()
        elif isinstance(module, ReferenceCRU):
            elementwise += FUSE_OPS_PER_ELEMENT * output.numel()

    for module in shadow.modules():
        module.register_forward_hook(hook)
    with torch.inference_mode():
        shadow(torch.empty((1, *sample_shape), device="meta"))
    return Counts(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=macs,
        elementwise=elementwise,
        scconv_blocks=sum(isinstance(m, ReferenceSCConv) for m in model.modules()),
    )
