"""The plain twin has the plain network's convolutions; everything else of the network stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import Certificate, RecognisedBlock, Recognition
from scconv_deploy.bench.twin import plain_twin, standard_convolution
from scconv_deploy.errors import InputError
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.families import scconv
from scconv_deploy.scconv.spec import ConvSpec, CRUSpec, SCConvSpec, SRUSpec
from scconv_deploy.stages import recognise

Layer = tuple[tuple[int, ...], object, object]


def convolutions(net: nn.Module) -> list[Layer]:
    return [(tuple(m.weight.shape), m.stride, m.padding) for m in net.modules() if isinstance(m, nn.Conv2d)]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def as_if_recognised(net: nn.Module, spec: SCConvSpec, *paths: str) -> Recognition:
    """Recognition is not what these tests are about."""
    proof = Certificate(0, 1, 1, 0.0, None, None)
    assert all(net.get_submodule(p) for p in paths)
    return Recognition(tuple(RecognisedBlock(p, "paper", spec, proof) for p in paths), ())


@pytest.fixture(scope="module")
def spec() -> SCConvSpec:
    (block,) = recognise.run(nn.Sequential(scconv("paper", 16)).eval()).blocks
    return block.spec


@pytest.mark.parametrize("depth", [18, 50])
def test_a_zoo_networks_twin_is_the_plain_resnet(depth: int) -> None:
    small = {"width": 32, "image": 64, "num_classes": 10}
    net = zoo.build(f"scconv_resnet{depth}", **small).eval()
    found = recognise.run(net)
    before = convolutions(net)
    twin = plain_twin(net, found, (torch.zeros(1, 3, 64, 64),), seed=0)
    plain = zoo.build(f"resnet{depth}", **small)
    assert convolutions(twin.module) == convolutions(plain)
    assert parameters(twin.module) == parameters(plain)
    assert set(twin.places) == {b.path for b in found.blocks}
    assert len(twin.strided) == (3 if depth == 50 else 0)
    # Broken twin of this test: the network itself is not the plain one, and was not touched.
    assert convolutions(net) == before != convolutions(plain)
    assert not twin.module.training


def test_resnet_50_in_full_size_has_the_plain_nets_shapes(spec: SCConvSpec) -> None:
    net, plain = zoo.build("scconv_resnet50").eval(), zoo.build("resnet50")
    blocks = []
    for path, module in net.named_modules():
        if type(module).__name__ == type(scconv("F3", 16)).__name__:
            channels = plain.get_submodule(path.removesuffix(".1")).state_dict()["weight"].shape[0]
            assert isinstance(spec.cru, CRUSpec)
            half = int(channels) // 2
            cru = CRUSpec(
                half,
                half,
                ConvSpec(half, half // 2),
                ConvSpec(half, half // 2),
                ConvSpec(half // 2, int(channels), (3, 3), padding=(1, 1), groups=2),
                ConvSpec(half // 2, int(channels)),
                ConvSpec(half // 2, int(channels) - half // 2),
            )
            blocks.append(as_if_recognised(net, SCConvSpec(None, cru), path).blocks[0])
    assert len(blocks) == 16
    twin = plain_twin(net, Recognition(tuple(blocks), ()), (torch.zeros(1, 3, 32, 32),), seed=0)
    assert convolutions(twin.module) == convolutions(plain)
    assert parameters(twin.module) == parameters(plain) == 25_557_032


def test_the_convolution_takes_after_the_group_wise_one(spec: SCConvSpec) -> None:
    assert spec.cru is not None
    gwc = replace(spec.cru.gwc, kernel=(5, 5), padding=(4, 4), dilation=(2, 2), stride=(2, 1))
    made = standard_convolution(replace(spec, cru=replace(spec.cru, gwc=gwc)))
    assert isinstance(made, nn.Conv2d)
    assert (made.in_channels, made.out_channels, made.groups) == (16, 16, 1)
    assert (made.kernel_size, made.stride, made.padding, made.dilation) == ((5, 5), (2, 1), (4, 4), (2, 2))


def test_an_sru_alone_stands_for_nothing(spec: SCConvSpec) -> None:
    assert isinstance(spec.sru, SRUSpec)
    assert isinstance(standard_convolution(SCConvSpec(spec.sru, None)), nn.Identity)


def test_pooling_becomes_a_stride_only_directly_before_a_block(spec: SCConvSpec) -> None:
    def twin_of(*layers: nn.Module, path: str) -> nn.Module:
        net = nn.Sequential(*layers)
        return plain_twin(net, as_if_recognised(net, spec, path), (torch.zeros(1, 16, 8, 8),), 0).module

    block = scconv("paper", 16)
    assert convolutions(twin_of(nn.AvgPool2d(2), block, path="1"))[0][1] == (2, 2)
    assert convolutions(twin_of(nn.AvgPool2d(2), nn.ReLU(), block, path="2"))[0][1] == (1, 1)
    assert convolutions(twin_of(nn.MaxPool2d(2), block, path="1"))[0][1] == (1, 1)
    assert convolutions(twin_of(nn.AvgPool2d(3, 2), block, path="1"))[0][1] == (1, 1)


def test_where_a_stride_would_change_the_shape_the_pooling_stays(spec: SCConvSpec) -> None:
    net = nn.Sequential(nn.AvgPool2d(2), scconv("paper", 16))
    twin = plain_twin(net, as_if_recognised(net, spec, "1"), (torch.zeros(1, 16, 7, 7),), 0)
    assert convolutions(twin.module)[0][1] == (1, 1)
    assert twin.strided == ()


def test_a_shared_block_stays_shared_and_weights_are_seeded(spec: SCConvSpec) -> None:
    block = scconv("paper", 16)
    net = nn.Sequential(block, nn.ReLU(), block)
    found, example = as_if_recognised(net, spec, "0", "2"), (torch.zeros(1, 16, 4, 4),)
    one, again = (plain_twin(net, found, example, seed=3).module for _ in range(2))
    assert one.get_submodule("0") is one.get_submodule("2")
    other = plain_twin(net, found, example, seed=4).module
    weights = [m.get_submodule("0").state_dict()["weight"] for m in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_network_without_certified_blocks_has_no_twin() -> None:
    with pytest.raises(InputError, match="no SCConv block was certified"):
        plain_twin(nn.Conv2d(3, 3, 1), Recognition((), ()), (torch.zeros(1, 3, 4, 4),), 0)


def test_a_network_that_cannot_take_the_convolution_says_so(spec: SCConvSpec) -> None:
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = scconv("paper", 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.block(x)
            if hasattr(self.block, "weight"):
                raise AttributeError("a convolution has no nosuch")
            return y

    net = Asking()
    with pytest.raises(InputError, match=r"the plain twin does not run: .*nosuch"):
        plain_twin(net, as_if_recognised(net, spec, "block"), (torch.zeros(1, 16, 4, 4),), 0)
