"""SRUs whose gamma weight is a tensor of its own, as in a program whose exporter has computed it already.

The modules are written by hand (:class:`StoredSRU` shares nothing with the deploy module), so they are the
reference for ``GammaWeight.STORED``, which has no formula and therefore no reference module.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import Recognition
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.spec import (
    Comparison,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    Reconstruct,
    SCConvSpec,
    SRUSpec,
)
from scconv_deploy.stages import recognise
from tests.recognition.generated import SPELLINGS, UserSRU

C = 8
PLAIN = {axis: values[0] for axis, values in SPELLINGS.items()}


class StoredSRU(UserSRU):
    """``w`` is a tensor that no formula of gamma gives; a static mask is one of 0 and 1."""

    def __init__(self, spec: SRUSpec) -> None:
        super().__init__(spec, PLAIN)
        self.kept = nn.Parameter(torch.randn(spec.channels))
        if spec.gate is Gate.STATIC:
            self.flags = nn.Parameter((torch.arange(spec.channels) % 3 > 0).float())

    def weigh(self, g: Tensor) -> Tensor:
        return self.kept.view(1, -1, 1, 1)

    def parts_of(self, r: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind.gate is Gate.STATIC:
            first = self.flags.view(1, -1, 1, 1) * r
            return first, r - first
        return super().parts_of(r, mask)


class Doubled(StoredSRU):
    """Almost the same: the weight depends on the input."""

    def weigh(self, g: Tensor) -> Tensor:
        return self.kept.view(1, -1, 1, 1) * (1.0 + 1e-3 * torch.tanh(self.seen.mean()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return super().forward(x)


def spec(gate: Gate, gated: Gated, reconstruct: Reconstruct, threshold: float = 0.5) -> SRUSpec:
    comparison = Comparison.GT if threshold == 0.5 else Comparison.GE
    return SRUSpec(
        C, Norm.GROUP_NORM, 4, 1e-5, GammaWeight.STORED, gate, comparison, threshold, gated, reconstruct
    )


def found(module: UserSRU) -> Recognition:
    return recognise.run(module.eval())


AXES = list(itertools.product(Gate, Gated, Reconstruct))


@pytest.mark.parametrize("threshold", [0.5, 0.3])
@pytest.mark.parametrize(("gate", "gated", "reconstruct"), AXES)
def test_every_gate_with_a_stored_weight(
    gate: Gate, gated: Gated, reconstruct: Reconstruct, threshold: float
) -> None:
    torch.manual_seed(0)
    wanted = spec(gate, gated, reconstruct, threshold)
    (block,) = found(StoredSRU(wanted)).blocks
    got = block.spec.sru
    assert got is not None
    # A stored mask compares nothing, so its threshold and comparison say nothing.
    if gate is Gate.STATIC:
        wanted = replace(wanted, threshold=got.threshold, comparison=got.comparison)
    assert got == wanted
    assert block.parameters["weight"] == "kept"
    assert ("mask" in block.parameters) == (gate is Gate.STATIC)


@pytest.mark.parametrize("gate", Gate)
def test_the_deploy_module_computes_the_same(gate: Gate) -> None:
    torch.manual_seed(1)
    wanted = spec(gate, Gated.INPUT, Reconstruct.CROSS)
    user = StoredSRU(wanted).double()
    roles = {"gamma": user.gamma, "beta": user.beta, "weight": user.kept}
    if gate is Gate.STATIC:
        roles["mask"] = user.flags
    x = torch.randn(2, C, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        ours = DeploySCConv(SCConvSpec(wanted, None), {k: v.detach() for k, v in roles.items()})(x)
        assert torch.allclose(ours, user(x), rtol=0, atol=1e-12)
        # The broken twin: another stored weight is another function.
        roles["weight"] = user.kept * 1.001
        other = DeploySCConv(SCConvSpec(wanted, None), {k: v.detach() for k, v in roles.items()})(x)
    moved = (other - user(x).detach()).abs().max()
    assert moved > 1e-6 or gate is Gate.HARD  # whose output shows the weight at the threshold only


def test_a_weight_that_depends_on_the_input_is_not_stored() -> None:
    torch.manual_seed(0)
    module = Doubled(spec(Gate.SOFT, Gated.INPUT, Reconstruct.CROSS))
    assert found(module).blocks == ()
