"""The copy computes the user's function and the user's module stays as it was; wrong roles are seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import LeftAsIs, LoweredModel, Recognition
from scconv_deploy.config import Precision
from scconv_deploy.errors import InputError
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.typed import TORCH_TYPES
from scconv_deploy.stages import lower
from tests.stages.small import EXAMPLE, IMAGE, half_lowered, network, ready, source_of


def lowered(net: nn.Module, recognition: Recognition, style: GraphStyle | None = None) -> LoweredModel:
    return lower.run(source_of(net), recognition, style or GraphStyle(), [EXAMPLE], [IMAGE])


def difference(found: LoweredModel) -> float:
    with torch.no_grad():
        return float((found.module(EXAMPLE) - found.reference(EXAMPLE)).abs().max())


@pytest.mark.parametrize("style", [GraphStyle(), GraphStyle(where_mask=True, concat_fuse=True)])
def test_the_copy_computes_the_same(style: GraphStyle) -> None:
    found = lowered(network(), ready().recognition, style)
    assert isinstance(found.module.get_submodule("2"), DeploySCConv)
    assert found.block_paths == ("2",)
    assert found.folded == (("0", "1"), ("2", "3"))
    assert difference(found) < 1e-5


def test_exchanged_roles_are_seen() -> None:
    (block,) = ready().recognition.blocks
    names = dict(block.parameters)
    names["gamma"], names["beta"] = names["beta"], names["gamma"]
    assert difference(lowered(network(), Recognition((replace(block, parameters=names),), ()))) > 1e-3


def test_the_users_module_is_left_alone() -> None:
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    kinds = [type(m) for m in net.modules()]
    found = lowered(net, ready().recognition)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert kinds == [type(m) for m in net.modules()]
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert not found.reference.training


def test_a_module_in_two_places_stays_shared() -> None:
    net = network()
    twice = nn.Sequential(*net, net[2])
    (block,) = ready().recognition.blocks
    both = Recognition((block, replace(block, path="4", parameters=dict(block.parameters))), ())
    found = lowered(twice, both)
    assert found.module.get_submodule("2") is found.module.get_submodule("4")
    assert difference(found) < 1e-5


def test_gammas_that_sum_to_zero_are_noted() -> None:
    net = network()
    (block,) = ready().recognition.blocks
    assert lowered(net, ready().recognition).notes == ()
    with torch.no_grad():
        net.get_parameter(block.parameters["gamma"]).zero_()
    (note,) = lowered(net, ready().recognition).notes
    assert note.startswith("2: the gamma weights are not finite")


class Refuses(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        raise ValueError("odd")


def test_a_model_that_refuses_the_example_is_refused() -> None:
    with pytest.raises(InputError, match=r"does not run on inputs of this shape .*odd"):
        lowered(Refuses(), Recognition((), ()))


# Half precision.


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_folded_in_float32_then_typed(precision: Precision) -> None:
    found = half_lowered(precision)
    half = TORCH_TYPES[precision]
    assert found.precision is precision
    assert found.folded == ready().lowered.folded
    exact = found.exact
    assert exact is not None
    assert {p.dtype for p in exact.parameters()} == {p.dtype for p in found.reference.parameters()}
    # Every typed weight is the folded float32 weight, rounded once.
    for (name, wide), typed in zip(exact.named_parameters(), found.module.parameters(), strict=True):
        assert torch.equal(wide.to(half), typed), name
    with torch.no_grad():
        error = (found.module(EXAMPLE.to(half)).float() - found.reference(EXAMPLE)).abs().max()
        scale = found.reference(EXAMPLE).abs().max()
    assert 0 < float(error / scale) < 20 * torch.finfo(half).eps


def test_fp32_is_its_own_exact_module_and_never_in_sign_form() -> None:
    found = lowered(network(), ready().recognition, GraphStyle(gate_in_half=True))
    assert found.exact is found.module
    block = found.module.get_submodule("2")
    assert isinstance(block, DeploySCConv)
    assert not block.style.gate_in_half


def in_half(net: nn.Module, recognition: Recognition) -> LoweredModel:
    return lower.run(source_of(net), recognition, GraphStyle(), [EXAMPLE], [IMAGE], Precision.FP16)


def test_weights_beyond_fp16_are_refused_by_name() -> None:
    net = network()
    with torch.no_grad():
        net[3].running_var.fill_(1e-14)  # folded, so it is the block's shift that grows
        net[3].eps = 1e-14
        net[3].weight.fill_(10.0)
    with pytest.raises(InputError, match=r"the tensor '2\.cru\.post_.*--precision bf16"):
        in_half(net, ready().recognition)


class MakesFloats(nn.Module):
    def __init__(self, linear: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 3, 1)
        self.linear = linear

    def forward(self, image: Tensor) -> Tensor:
        image = image + torch.ones(6)
        return self.head(image) if self.linear else image


def test_float32_tensors_made_in_forward_are_named_or_promote() -> None:
    with pytest.raises(
        InputError, match=r"runs in fp32 but not in fp16: .*its own forward probably makes float32"
    ):
        in_half(MakesFloats(linear=True), Recognition((), ()))
    found = in_half(MakesFloats(linear=False), Recognition((), ()))
    assert found.module(EXAMPLE.half()).dtype is torch.float32


def test_look_alikes_are_said_to_be_unprotected() -> None:
    left = Recognition((), (LeftAsIs("0", "not certified"),))
    (note,) = in_half(nn.Sequential(nn.Conv2d(3, 3, 1)), left).notes
    assert note.startswith("0 looks like SCConv and is not certified, so in fp16 its gate is not protected")
    assert lowered(nn.Sequential(nn.Conv2d(3, 3, 1)), left).notes == ()


def test_a_block_may_have_a_style_of_its_own() -> None:
    own = GraphStyle(dense_y1_below=100)
    made = lower.run(
        source_of(network()),
        ready().recognition,
        GraphStyle(),
        [EXAMPLE],
        [IMAGE],
        styles={"2": own, "9": GraphStyle()},
    )
    block = made.module.get_submodule("2")
    assert isinstance(block, DeploySCConv)
    assert block.style == own
    assert difference(made) < 1e-5
    assert lowered(network(), ready().recognition).module.get_submodule("2").style == GraphStyle()
