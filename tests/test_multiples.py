"""Dynamic heights and widths end at what the model takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import shape_ranges
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import settle
from scconv_deploy.multiples import find_multiples
from scconv_deploy.scconv import zoo


def image_range(minimum: str, optimum: str, maximum: str, module: nn.Module) -> tuple[TensorSpec, ...]:
    return settle(module, (), shape_ranges((), [minimum], [optimum], [maximum]), None, dynamic_batch=True)


def test_bottleneck_networks_need_multiples() -> None:
    net = zoo.build("scconv_resnet50", width=8, blocks=[1, 1, 1, 1], num_classes=3)
    specs, notes = find_multiples(net, image_range("1x3x33x32", "1x3x60x64", "2x3x100x100", net))
    assert specs[0].multiple_of == {2: 32, 3: 32}
    assert specs[0].minimum == (1, 3, 64, 32)
    assert specs[0].optimum == (1, 3, 64, 64)
    assert specs[0].maximum == (2, 3, 96, 96)
    assert "must be a multiple of 32" in notes[0]
    assert "1x3x64x32 to 2x3x96x96" in notes[0]


def test_basic_block_networks_take_any_size() -> None:
    net = zoo.build("scconv_resnet20", width=16, blocks=[1, 1, 1])
    given = image_range("1x3x17x16", "1x3x33x32", "2x3x51x52", net)
    assert find_multiples(net, given) == (given, [])


def test_static_inputs_are_not_probed() -> None:
    class Never(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("was run")

    specs = settle(Never(), (), shape_ranges(["1x3x8x8"]), None, dynamic_batch=True)
    assert find_multiples(Never(), specs) == (specs, [])


def test_one_dynamic_axis() -> None:
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(x, 2)[:, :, : x.shape[2] // 2] + x[:, :, ::2, ::2]

    specs, _ = find_multiples(Halves(), image_range("1x1x8x8", "1x1x8x9", "1x1x8x20", Halves()))
    assert specs[0].multiple_of == {3: 2}
    assert specs[0].shape == ("batch", 1, 8, "width")


def test_no_size_works() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(InputError, match="does not run over the whole range"):
        find_multiples(net, image_range("1x1x8x8", "1x1x8x8", "1x1x16x16", net))


def test_a_model_that_cannot_run_on_meta_is_probed_for_real() -> None:
    class KeepsATensor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(2)
            self.table = [torch.ones(1)]  # no buffer: `.to("meta")` does not move it

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(x) * self.table[0] + x[:, :, ::2, ::2]

    net = KeepsATensor()
    specs, _ = find_multiples(net, image_range("1x1x8x8", "1x1x8x8", "1x1x16x16", net))
    assert specs[0].multiple_of == {2: 2, 3: 2}
    assert net.table[0].device.type == "cpu"


def test_a_model_that_cannot_be_copied_is_said_in_words() -> None:
    net = nn.utils.weight_norm(nn.Conv2d(1, 1, 1))
    net(torch.ones(1, 1, 4, 4))
    with pytest.raises(InputError, match="cannot be copied"):
        find_multiples(net, image_range("1x1x8x8", "1x1x8x8", "1x1x16x16", net))
