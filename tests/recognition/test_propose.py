"""Random specifications over all axes at once: the right one is among the candidates and the one accepted."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from scconv_deploy.recognition.equality import proved_equal
from scconv_deploy.recognition.observe import ConvCall
from scconv_deploy.recognition.propose import wirings
from scconv_deploy.recognition.walk import recognise
from scconv_deploy.scconv.reference import ReferenceSCConv, family_spec
from scconv_deploy.scconv.spec import (
    Comparison,
    ConvSpec,
    CRUSpec,
    Fuse,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    Order,
    Reconstruct,
    SCConvSpec,
    SRUSpec,
    Y2Order,
)


def random_sru(dice: random.Random, channels: int) -> SRUSpec:
    norm = dice.choice(list(Norm))
    groups = dice.choice([1, 2, 4, channels] if norm is Norm.GROUP_NORM else [1, 2, 4, 5, channels])
    gate, kind = dice.choice(list(Gate)), dice.choice([k for k in GammaWeight if k is not GammaWeight.STORED])
    threshold = dice.choice([0.5, 0.05, 0.1] if gate is Gate.STATIC else [0.5, 0.5, 0.4, 0.55, 0.3])
    made = SRUSpec(
        channels,
        norm,
        groups,
        dice.choice([1e-5, 1e-10, 1e-6, 1e-3]),
        kind,
        gate,
        dice.choice(list(Comparison)),
        threshold,
        dice.choice(list(Gated)),
        dice.choice(list(Reconstruct)),
    )
    if kind in (GammaWeight.SUM, GammaWeight.ABS_SUM):
        return replace(
            made, weight_eps=dice.choice([0.0, 0.0, 1e-5]), weight_clamp=dice.choice([None, None, 1e-6])
        )
    return made


def random_cru(dice: random.Random, c_in: int, c_out: int) -> CRUSpec:
    up = dice.choice([c_in // 2, c_in // 4])
    low, up_squeezed, low_squeezed = c_in - up, max(2, up // 4 * 2), max(1, (c_in - up) // 2)
    kernel, dilation, stride = dice.choice([1, 3, 5]), dice.choice([1, 1, 2]), dice.choice([1, 1, 2])
    pad = dilation * (kernel // 2)
    order = dice.choice(list(Y2Order))

    def bias() -> bool:
        return dice.random() < 0.3

    gwc = ConvSpec(
        up_squeezed,
        c_out,
        (kernel, kernel),
        padding=(pad, pad),
        dilation=(dilation, dilation),
        groups=dice.choice([1, 2]),
        bias=bias(),
        padding_mode=dice.choice(["zeros", "reflect"]) if pad else "zeros",
    )
    return CRUSpec(
        up,
        low,
        ConvSpec(up, up_squeezed, stride=(stride, stride), bias=bias()),
        ConvSpec(low, low_squeezed, stride=(stride, stride), bias=bias()),
        gwc,
        ConvSpec(up_squeezed, c_out, bias=bias()),
        ConvSpec(low_squeezed, c_out if order is Y2Order.PWC2_ONLY else c_out - low_squeezed, bias=bias()),
        order,
        dice.choice(list(Fuse)),
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_specifications_are_recognised(seed: int) -> None:
    dice = random.Random(seed)
    channels = dice.choice([8, 12, 16, 24])
    c_out = dice.choice([channels, channels, 2 * channels])
    order = dice.choice(list(Order)) if c_out == channels else Order.SRU_CRU
    spec = SCConvSpec(random_sru(dice, channels), random_cru(dice, channels, c_out), order)
    torch.manual_seed(seed)
    found = recognise(ReferenceSCConv(spec))
    assert [b.path for b in found.blocks] == [""], found.left_as_is
    assert proved_equal(found.blocks[0].spec, spec)


def test_wirings_include_both_squeezes_and_keep_the_larger_kernel_as_gwc() -> None:
    cru = family_spec("F3", 16).cru
    assert cru is not None
    convs = (cru.squeeze_up, cru.squeeze_low, cru.pwc1, cru.gwc, cru.pwc2)
    calls = tuple(ConvCall(f"w{i}", None, conv) for i, conv in enumerate(convs))
    found = [roles for _, roles in wirings(calls)]
    assert {(r["squeeze_up.weight"], r["squeeze_low.weight"]) for r in found} == {("w0", "w1"), ("w1", "w0")}
    assert {r["gwc.weight"] for r in found} == {"w3"}
    assert not list(wirings(()))
