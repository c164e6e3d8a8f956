"""What is computed without torch is what torch builds, and only exact matches are named."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch

from scconv_deploy.checkpoint.zoo_shapes import ALIKE, FORMS, Known, expected, families_that_fit, identify
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.families import FAMILIES


def built(name: str, **settings: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in zoo.build(name, **settings).state_dict().items()}


def test_every_architecture_and_family_has_a_place() -> None:
    names = {f.name for f in FORMS}
    assert names | {f"scconv_{n}" for n in names} == set(zoo.ARCHITECTURES)
    assert sorted(f for group in ALIKE.values() for f in group) == sorted(FAMILIES)
    for form in FORMS:
        known = asdict(zoo.ARCHITECTURES[f"scconv_{form.name}"].defaults)
        assert form.defaults == {k: known[k] for k in form.defaults}


@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes_are_those_of_the_built_network(name: str, family: str) -> None:
    settings: dict[str, Any] = {"blocks": 2, "width": 32, "num_classes": 7}
    if name.startswith("scconv_"):
        settings |= {"family": family, "alpha": 0.25, "gwc_kernel": 5}
    given = asdict(zoo.ARCHITECTURES[name].settings(settings))
    shapes = built(name, **settings)
    assert expected(name, given) == shapes
    known = identify(shapes)
    assert known is not None
    assert (
        built(known.name, **known.arguments, **{k: v for k, v in settings.items() if k == "family"}) == shapes
    )
    if name.startswith("scconv_"):
        assert family in known.families
        assert families_that_fit(name, given, shapes) == known.families


def test_defaults_are_not_repeated() -> None:
    assert str(identify(built("resnet56"))) == "--factory resnet56"
    assert str(identify(built("scconv_resnet50", family="F2"))) == "--factory scconv_resnet50"
    known = identify(built("scconv_resnet20", family="F0", width=32))
    assert known == Known("scconv_resnet20", {"width": 32}, ("F0", "F1"))
    assert str(known) == "--factory 'scconv_resnet20(width=32)' --variant F0|F1"


@pytest.mark.parametrize("change", ["one more", "one less", "another shape", "nothing"])
def test_almost_is_not_known(change: str) -> None:
    shapes = built("scconv_resnet20")
    if change == "one more":
        shapes["extra.weight"] = (1,)
    elif change == "one less":
        del shapes["stages.1.0.bn1.bias"]
    elif change == "another shape":
        shapes["stages.2.1.conv1.cru.pwc1.weight"] = (1, 1, 1, 1)
    assert (identify(shapes) is None) == (change != "nothing")


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"stem.0.weight": (1, 1, 3, 3), "head.weight": (1, 1)},
        {
            "stem.0.weight": (0, 0, 0, 0),
            "head.weight": (0, 0),
            "stages.0.0.x.y": (),
            "stages.0.0.a.cru.gwc.weight": (),
        },
        {"stem.0.weight": (4, 4, 3, 3), "head.weight": (4, 4), "stages.999999999999.0.x": ()},
    ],
)
def test_odd_shapes_are_not_known(shapes: dict[str, tuple[int, ...]]) -> None:
    assert identify(shapes) is None
