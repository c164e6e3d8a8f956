"""The deploy module with merged convolutions computes the reference's function; twins do not."""

from __future__ import annotations

import pytest
import torch

from scconv_deploy.scconv.deploy_merged import MergedCRU
from scconv_deploy.scconv.spec import Fuse
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.agreement import worst_error
from tests.scconv.axes import base, cru
from tests.scconv.test_deploy import BROKEN, SPECIFICATIONS, TOLERANCE, deploy_of, inputs_for, reference_of

STYLES = [GraphStyle(cru_convolutions=n) for n in (3, 2)]


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_axis_value(name: str) -> None:
    spec = SPECIFICATIONS[name]
    module = reference_of(spec)
    for style in STYLES:
        error = worst_error(module, deploy_of(module, style), inputs_for(spec))
        assert error <= TOLERANCE, f"{name} with {style}: {error}"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fuse", Fuse)
def test_a_folded_batch_norm(fuse: Fuse, style: GraphStyle) -> None:
    module = reference_of(cru(fuse=fuse))
    deploy = deploy_of(module, style)
    assert isinstance(deploy.cru, MergedCRU)
    scale, shift = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    deploy.cru.fold_batch_norm(scale, shift)

    def want(x: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = module(x)
        return whole * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

    assert worst_error(want, deploy, inputs_for(module.spec)) <= TOLERANCE
    assert worst_error(module, deploy, inputs_for(module.spec)) > BROKEN


@pytest.mark.parametrize("style", STYLES)
def test_a_moved_weight_is_seen(style: GraphStyle) -> None:
    module = reference_of(base())
    deploy = deploy_of(module, style)
    role = "y1" if style.cru_convolutions == 3 else "y"
    weight = deploy.get_submodule(f"cru.{role}").get_parameter("weight")
    weight.data = weight.data.roll(1, dims=3)
    assert worst_error(module, deploy, inputs_for(module.spec)) > BROKEN
