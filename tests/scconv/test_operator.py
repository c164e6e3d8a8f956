"""A block's one-node stand-in has its plan, constants and output shape; swapping keeps sharing and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from scconv_deploy.errors import InputError
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import can_emit
from scconv_deploy.scconv.operator import BlockCall, BlockPlan, output_shape, with_block_operators
from scconv_deploy.scconv.spec import ConvSpec, Order, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.axes import base, cru, gwc, specifications, sru, strided
from tests.scconv.test_deploy import deploy_of, inputs_for, reference_of

SPECIFICATIONS = specifications()


def deploy(spec: SCConvSpec, style: GraphStyle | None = None) -> DeploySCConv:
    return deploy_of(reference_of(spec), style)


def test_plans_survive_text() -> None:
    texts = set()
    for spec in SPECIFICATIONS.values():
        plan = BlockPlan(spec, GraphStyle(where_mask=True, merged_y2=False), ("gamma", "cru.gwc.weight"))
        assert BlockPlan.from_text(plan.to_text()) == plan
        texts.add(plan.to_text())
    assert len(texts) == len(set(SPECIFICATIONS.values()))
    with pytest.raises(InputError, match="not an SCConv specification"):
        BlockPlan.from_text('{"spec": {}, "style": {}, "constants": []}')


@pytest.mark.parametrize(
    "spec",
    [
        base(),
        strided(),
        gwc(5, dilation=2),
        cru(squeeze_up=ConvSpec(4, 2, stride=(2, 1)), squeeze_low=ConvSpec(4, 2, stride=(2, 1))),
        replace(strided(), order=Order.CRU_SRU),
        SCConvSpec(base().sru, None),
        SPECIFICATIONS["uneven CRU then SRU"],
    ],
)
def test_the_shape_is_what_the_block_gives(spec: SCConvSpec) -> None:
    block = deploy(spec)
    for x in inputs_for(spec, ((1, 8, 8), (2, 5, 7))):
        with torch.no_grad():
            assert tuple(block(x).shape) == output_shape(x, spec)
            assert BlockCall(block)(x).shape == block(x).shape


def test_a_stride_forgotten_would_be_seen() -> None:
    (x,) = inputs_for(base(), ((1, 8, 8),))
    assert output_shape(x, strided()) == (1, 8, 4, 4)
    assert output_shape(x, base()) == (1, 8, 8, 8)


def test_constants_follow_the_plans_order() -> None:
    block = deploy(sru(groups=2), GraphStyle(merged_y2=False))
    call = BlockCall(block)
    state = block.state_dict()
    assert call.plan.constants == tuple(state)
    for name, tensor in zip(call.plan.constants, call.buffers(), strict=True):
        assert torch.equal(state[name], tensor), name


def test_shared_blocks_stay_shared_and_refused_ones_stay() -> None:
    block, other = deploy(base()), deploy(gwc(3, mode="reflect"))
    model = nn.Sequential(block, nn.ModuleDict({"again": block, "other": other}), nn.ReLU())
    assert with_block_operators(model, can_emit) is model
    assert isinstance(model[0], BlockCall)
    assert model.get_submodule("1.again") is model[0]
    assert model.get_submodule("1.other") is other


def test_a_model_that_is_one_block() -> None:
    block = deploy(base())
    assert isinstance(with_block_operators(block, can_emit), BlockCall)
    assert with_block_operators(block, lambda spec: False) is block
