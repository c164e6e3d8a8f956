"""Merged kernels compute the five convolutions' (Y1, Y2) in float64; every wrong merge is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scconv_deploy.scconv.merged import (
    AS_WRITTEN,
    THREE,
    TWO,
    merged_convolutions,
    merged_weights,
    merges,
    ungrouped,
)
from scconv_deploy.scconv.spec import ConvSpec, CRUSpec, Y2Order
from tests.scconv.axes import base, gwc, specifications, strided, uneven_cru

EXACT = 1e-12
BROKEN = 1e-3
ROLES = ("squeeze_up", "squeeze_low", "gwc", "pwc1", "pwc2")
CRUS = {name: s.cru for name, s in specifications().items() if s.cru is not None}
MERGED = [(name, n) for name, c in CRUS.items() for n in (THREE, TWO) if merges(c, n) == n]


def weights_of(spec: CRUSpec) -> dict[str, Tensor]:
    torch.manual_seed(0)
    made = {}
    for role in ROLES:
        c: ConvSpec = getattr(spec, role)
        made[f"{role}.weight"] = torch.randn(c.c_out, c.c_in // c.groups, *c.kernel, dtype=torch.float64)
        if c.bias:
            made[f"{role}.bias"] = torch.randn(c.c_out, dtype=torch.float64)
    return made


def run(c: ConvSpec, role: str, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    bias = weights.get(f"{role}.bias")
    return F.conv2d(x, weights[f"{role}.weight"], bias, c.stride, c.padding, c.dilation, c.groups)


def as_written(spec: CRUSpec, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    up = run(spec.squeeze_up, "squeeze_up", weights, x[:, : spec.up])
    low = run(spec.squeeze_low, "squeeze_low", weights, x[:, spec.up :])
    y1 = run(spec.gwc, "gwc", weights, up) + run(spec.pwc1, "pwc1", weights, up)
    y2 = run(spec.pwc2, "pwc2", weights, low)
    if spec.y2_order is Y2Order.PWC2_LOW:
        return torch.cat([y1, y2, low], dim=1)
    return torch.cat([y1, y2] if spec.y2_order is Y2Order.PWC2_ONLY else [y1, low, y2], dim=1)


def merged(spec: CRUSpec, weights: Mapping[str, Tensor], x: Tensor, count: int) -> Tensor:
    shapes = merged_convolutions(spec, count)
    if count == TWO:
        return run(shapes["y"], "y", weights, run(shapes["squeeze"], "squeeze", weights, x))
    up = run(shapes["squeeze_up"], "squeeze_up", weights, x[:, : spec.up])
    return torch.cat(
        [run(shapes["y1"], "y1", weights, up), run(shapes["y2"], "y2", weights, x[:, spec.up :])], dim=1
    )


def error_of(spec: CRUSpec, weights: Mapping[str, Tensor], count: int) -> float:
    """Largest difference to the five convolutions with their true weights, relative to the largest value."""
    x = torch.randn(2, spec.c_in, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    want, got = as_written(spec, weights_of(spec), x), merged(spec, weights, x, count)
    assert want.shape == got.shape
    return float((want - got).abs().max() / want.abs().max())


@pytest.mark.parametrize(("name", "count"), MERGED)
def test_merged_kernels_compute_the_same(name: str, count: int) -> None:
    spec = CRUS[name]
    assert error_of(spec, merged_weights(spec, weights_of(spec), count), count) <= EXACT


def test_every_bias_is_carried() -> None:
    centre = base().cru
    assert centre is not None
    biased = {role: replace(getattr(centre, role), bias=True) for role in ROLES}
    for present in (ROLES, ROLES[:1], ROLES[1:2], ROLES[2:3], ROLES[3:4], ROLES[4:], ()):
        plain = {r: replace(getattr(centre, r), bias=False) for r in ROLES if r not in present}
        spec = replace(centre, **{r: biased[r] for r in present}, **plain)
        for count in (THREE, TWO):
            made = merged_weights(spec, weights_of(spec), count)
            assert error_of(spec, made, count) <= EXACT
            assert any("bias" in name for name in made) == bool(present)


@pytest.mark.parametrize("order", Y2Order)
def test_uneven_pieces_merge_into_three(order: Y2Order) -> None:
    spec = uneven_cru(order=order)
    assert merges(spec, TWO) == THREE
    assert error_of(spec, merged_weights(spec, weights_of(spec), THREE), THREE) <= EXACT


def test_weights_keep_their_type_and_are_rounded_once() -> None:
    spec = CRUS["family F3"]
    single = {name: w.float() for name, w in weights_of(spec).items()}
    exact = merged_weights(spec, {name: w.double() for name, w in single.items()}, THREE)
    for name, made in merged_weights(spec, single, THREE).items():
        assert made.dtype == torch.float32
        assert torch.equal(made, exact[name].float())


def test_what_cannot_be_merged_is_left() -> None:
    centre = base().cru
    assert centre is not None
    assert merges(centre, AS_WRITTEN) == AS_WRITTEN
    assert merges(centre, THREE) == THREE
    other_position = replace(centre.gwc, padding=(1, 1), dilation=(2, 2))
    refused = {
        "no tap reads PWC1's position": replace(centre, gwc=other_position),
        "PWC1 strides apart": replace(centre, pwc1=replace(centre.pwc1, stride=(2, 2))),
        "PWC2 moves positions": replace(centre, pwc2=replace(centre.pwc2, kernel=(3, 3), padding=(1, 1))),
        "other padding": gwc(3, mode="reflect").cru,
    }
    for reason, spec in refused.items():
        assert spec is not None
        assert merges(spec, TWO) == AS_WRITTEN, reason
    three_only = {
        "squeezes differ": replace(
            centre, squeeze_up=replace(centre.squeeze_up, kernel=(3, 3), padding=(1, 1))
        ),
        "strided GWC": replace(
            centre,
            gwc=replace(centre.gwc, stride=(2, 2)),
            pwc1=replace(centre.pwc1, stride=(2, 2)),
            squeeze_low=replace(centre.squeeze_low, stride=(2, 2)),
        ),
    }
    for reason, spec in three_only.items():
        assert merges(spec, TWO) == THREE, reason
        assert error_of(spec, merged_weights(spec, weights_of(spec), THREE), THREE) <= EXACT
    assert merges(CRUS["strided squeezes"], TWO) == TWO
    assert strided().cru == CRUS["strided squeezes"]


def test_a_grouped_kernel_is_dense_with_zeros() -> None:
    weight, x = torch.randn(6, 2, 3, 3), torch.randn(1, 4, 5, 5)
    assert torch.allclose(F.conv2d(x, ungrouped(weight, 2)), F.conv2d(x, weight, groups=2), atol=1e-5)
    assert ungrouped(weight, 1) is weight


# Broken twins.


def no_pwc1(weights: dict[str, Tensor]) -> None:
    weights["pwc1.weight"].zero_()


def doubled_squeeze(weights: dict[str, Tensor]) -> None:
    weights["squeeze_low.weight"] *= 2


def swapped_groups(weights: dict[str, Tensor]) -> None:
    weights["gwc.weight"] = weights["gwc.weight"].roll(len(weights["gwc.weight"]) // 2, 0)


def no_bias(weights: dict[str, Tensor]) -> None:
    del weights["gwc.bias"]


def no_pwc2(weights: dict[str, Tensor]) -> None:
    weights["pwc2.weight"].zero_()


@pytest.mark.parametrize("count", [THREE, TWO])
@pytest.mark.parametrize("twin", [no_pwc1, doubled_squeeze, swapped_groups, no_bias, no_pwc2])
def test_broken_twins_are_seen(twin: Callable[[dict[str, Tensor]], None], count: int) -> None:
    spec = CRUS["family F3"]
    weights = weights_of(spec)
    twin(weights)
    assert error_of(spec, merged_weights(spec, weights, count), count) > BROKEN


def test_another_order_of_y2_is_seen() -> None:
    spec = CRUS["family F3"]
    wrong = merged_weights(replace(spec, y2_order=Y2Order.LOW_PWC2), weights_of(spec), THREE)
    assert error_of(spec, wrong, THREE) > BROKEN
