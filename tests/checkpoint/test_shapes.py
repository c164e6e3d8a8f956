"""SCConv blocks are found by the wiring of their shapes, and near misses are not."""

from __future__ import annotations

import pytest

from scconv_deploy.checkpoint.shapes import families_allowed, scconv_prefixes
from scconv_deploy.scconv.reference import FAMILIES, ReferenceSCConv, family_spec

Shapes = dict[str, tuple[int, ...]]

CRU: Shapes = {
    "up.weight": (2, 4, 1, 1),
    "low.weight": (2, 4, 1, 1),
    "gwc.weight": (8, 1, 3, 3),
    "gwc.bias": (8,),
    "pwc1.weight": (8, 2, 1, 1),
    "pwc2.weight": (6, 2, 1, 1),
}


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{k}": v for k, v in shapes.items()}


AFFINE: dict[str, Shapes] = {
    "gamma": {"gn.gamma": (8, 1, 1), "gn.beta": (8, 1, 1)},
    "wide": {"gn.weight": (8, 1, 1), "gn.bias": (8, 1, 1)},
    "flat": {"gn.weight": (8,), "gn.bias": (8,)},
}
"""How published copies store the norm's parameters."""

ALLOWED = {"gamma": ("F0", "F1"), "wide": ("F2",), "flat": ("F3", "paper")}


def block(norm: str) -> Shapes:
    return under("sru", AFFINE[norm]) | under("cru", CRU)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_block_of_every_family_is_found(family: str) -> None:
    made = ReferenceSCConv(family_spec(family, 32))
    shapes = under("stage.conv", {k: tuple(v.shape) for k, v in made.state_dict().items()})
    assert scconv_prefixes(shapes | {"stage.down.weight": (32, 16, 1, 1)}) == ("stage.conv",)


@pytest.mark.parametrize("norm", AFFINE)
def test_families_are_told_by_the_norm_s_names_and_axes(norm: str) -> None:
    shapes = under("a.conv", block(norm)) | under("b.conv", block(norm))
    shapes |= {"a.down.weight": (8, 4, 1, 1), "b.down.weight": (8, 4, 1, 1), "fc.weight": (10, 8)}
    prefixes = scconv_prefixes(shapes)
    assert prefixes == ("a.conv", "b.conv")
    assert families_allowed(shapes, prefixes) == ALLOWED[norm]


def test_a_cru_alone_is_found_at_the_shortest_prefix_that_has_it() -> None:
    assert scconv_prefixes(under("net.cru", CRU) | {"net.stem.weight": (4, 3, 3, 3)}) == ("net.cru",)
    assert scconv_prefixes(CRU) == ("",)
    assert scconv_prefixes({}) == ()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("gwc.weight", (8, 1, 1, 1)),  # no spatial kernel
        ("gwc.weight", (9, 1, 3, 3)),  # not the width of PWC1
        ("pwc1.weight", (8, 3, 1, 1)),  # reads another width than is squeezed
        ("pwc2.weight", (5, 2, 1, 1)),  # leaves channels of the joint output unfilled
        ("up.weight", (2, 4, 3, 3)),  # a squeeze that is no 1x1
        ("low.weight", (0, 4, 1, 1)),  # forged
    ],
)
def test_five_convolutions_wired_otherwise_are_none(name: str, shape: tuple[int, ...]) -> None:
    assert scconv_prefixes(CRU) != ()
    assert scconv_prefixes(CRU | {name: shape}) == ()


def test_four_or_six_convolutions_are_none() -> None:
    assert scconv_prefixes({k: v for k, v in CRU.items() if k != "low.weight"}) == ()
    assert scconv_prefixes(CRU | {"more.weight": (8, 8, 1, 1)}) == ()


def test_no_family_is_told_outside_the_blocks_or_where_blocks_disagree() -> None:
    shapes = under("a", block("gamma")) | under("b", block("wide"))
    assert families_allowed(shapes, ["a"]) == ("F0", "F1")
    assert families_allowed(shapes, ["b"]) == ("F2",)
    assert families_allowed(shapes, ["a", "b"]) == ()
    assert families_allowed(shapes, ["elsewhere"]) == ()


def test_a_forged_name_of_a_million_parts_costs_nothing() -> None:
    assert scconv_prefixes({"a." * 1_000_000 + "weight": (8, 1, 3, 3)}) == ()
