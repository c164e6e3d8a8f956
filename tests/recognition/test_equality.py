"""Specifications called equal compute equal outputs; near neighbours are not called equal."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scconv_deploy.recognition.equality import proved_equal
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.reference import family_spec
from scconv_deploy.scconv.spec import Comparison, GammaWeight, SCConvSpec

C = 8


def sru(family: str, **changes: object) -> SCConvSpec:
    found = family_spec(family, C).sru
    assert found is not None
    return SCConvSpec(replace(found, **changes), None)  # type: ignore[arg-type]


EQUAL: list[tuple[SCConvSpec, SCConvSpec]] = [
    (sru("paper", gamma_weight=GammaWeight.SOFTMAX), sru("paper", gamma_weight=GammaWeight.NONE)),
    (
        sru("paper", gamma_weight=GammaWeight.ABS_SUM),
        sru("paper", gamma_weight=GammaWeight.ABS_SUM, weight_eps=1e-3),
    ),
    (sru("paper", gamma_weight=GammaWeight.ABS_SUM), sru("paper", weight_clamp=1e-6)),
    (sru("F3", threshold=0.0), sru("F3", threshold=-1.0, comparison=Comparison.GE)),
    (sru("F1", threshold=1.0), sru("F1", threshold=2.0, groups=2, eps=1.0)),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_specifications_compute_the_same(one: SCConvSpec, other: SCConvSpec) -> None:
    assert one != other
    assert proved_equal(one, other)
    torch.manual_seed(0)
    for _ in range(4):
        weights = {"gamma": torch.randn(C).double(), "beta": torch.randn(C).double()}
        x = torch.randn(2, C, 4, 4).double()
        torch.testing.assert_close(DeploySCConv(one, weights)(x), DeploySCConv(other, weights)(x))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sru("paper"), sru("F3")),
        (sru("F3", gamma_weight=GammaWeight.SOFTMAX), sru("F3", gamma_weight=GammaWeight.NONE)),
        (sru("paper"), sru("paper", gamma_weight=GammaWeight.ABS_SUM)),
        (sru("paper"), sru("paper", comparison=Comparison.GE)),
        (sru("F3"), sru("F3", eps=1e-6)),
    ],
)
def test_different_specifications_are_not_called_equal(one: SCConvSpec, other: SCConvSpec) -> None:
    assert not proved_equal(one, other)
