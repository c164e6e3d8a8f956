"""The copy computes the user's function and the user's module stays as it was; wrong roles are seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import LoweredModel, Recognition
from scconv_deploy.errors import InputError
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower
from tests.stages.small import EXAMPLE, IMAGE, network, ready, source_of


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
