"""Generated variants in users' spellings: every one is recognised, and computes what the user's module does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scconv_deploy.recognition.equality import proved_equal
from scconv_deploy.recognition.walk import recognise
from scconv_deploy.scconv.deploy import DeploySCConv
from tests.recognition.generated import AXES, SPELLINGS, Draw, user_module

COUNT = 72
MORE = 400


def test_every_value_of_every_axis_is_drawn() -> None:
    draws = [Draw(i, COUNT) for i in range(COUNT)]
    for axis, values in AXES.items():
        assert {str(d[axis]) for d in draws} == {str(v) for v in values}
    for axis, spellings in SPELLINGS.items():
        assert {d.spelling[axis] for d in draws} == set(spellings)
    assert len({d.spec() for d in draws}) >= 60


def check(draw: Draw) -> None:
    module = user_module(draw)
    found = recognise(nn.Sequential(nn.Identity(), module))
    assert [b.path for b in found.blocks] == ["1"], (found.left_as_is, draw.spec())
    block = found.blocks[0]
    assert proved_equal(block.spec, draw.spec()), (block.spec, draw.spec())
    assert block.certificate.worst_error < 1e-10
    assert block.certificate.edge_probes >= (2 if block.spec.sru else 0)
    twin = nn.Sequential(nn.Identity(), module).double()
    tensors = twin.state_dict()
    deployed = DeploySCConv(block.spec, {role: tensors[name] for role, name in block.parameters.items()})
    torch.manual_seed(1000 + draw.index)
    for shape in ((2, block.spec.c_in, 10, 10), (1, block.spec.c_in, 15, 20)):  # both divide by five groups
        x = torch.randn(shape, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(deployed(x), twin(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("index", range(COUNT))
def test_generated_variants_are_recognised(index: int) -> None:
    check(Draw(index, COUNT))


@pytest.mark.slow
@pytest.mark.parametrize("index", range(MORE))
def test_many_more_generated_variants_are_recognised(index: int) -> None:
    check(Draw(index, MORE))


@pytest.mark.parametrize("index", [3, 11, 29])
def test_a_generated_variant_with_another_output_is_not(index: int) -> None:
    """The broken twin: the same module behind an output scaled by 1 + 1e-6."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = user_module(Draw(index, COUNT))
            self.forward_inner = type(self.inner).forward

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.inner(x)
            return out * (1.0 + 1e-6)

    found = recognise(nn.Sequential(nn.Identity(), Scaled()))
    assert all(b.path.startswith("1.inner") for b in found.blocks)
