"""The floor of the int8 benchmark: the block's own convolutions, and nothing else of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.units import ReferenceSCConv, ReferenceSRU
from tests.bench.int8 import BUNDLES, PLAIN_INT8, Convolutions, without_units


def test_only_convolutions_and_sums_are_left_and_all_of_them() -> None:
    torch.manual_seed(0)
    net = zoo.build("scconv_resnet50").eval()
    block = next(m for m in net.modules() if isinstance(m, ReferenceSCConv))
    assert block.cru is not None
    convolutions = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    floor = without_units(net)
    assert sum(isinstance(m, nn.Conv2d) for m in floor.modules()) == convolutions
    assert not any(isinstance(m, ReferenceSRU | nn.Softmax | ReferenceSCConv) for m in floor.modules())
    x = torch.randn(2, block.spec.c_in, 7, 7)
    with torch.no_grad():
        made = Convolutions(block.cru)(x)
        assert made.shape == block(x).shape
        # All five take part: without any of them the sum is another.
        for name in ("squeeze_up", "squeeze_low", "gwc", "pwc1", "pwc2"):
            weight = getattr(block.cru, name).weight
            kept = weight.clone()
            weight.zero_()
            assert not torch.equal(Convolutions(block.cru)(x), made), name
            weight.copy_(kept)
        assert floor(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_a_network_without_blocks_has_no_floor() -> None:
    with pytest.raises(LookupError, match="no SCConv blocks"):
        without_units(zoo.build("resnet18"))


def test_the_yardstick_is_the_network_that_is_replaced() -> None:
    assert next(iter(BUNDLES)) == PLAIN_INT8
