from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from scconv_deploy.artifacts import Json
from scconv_deploy.report.manifest import Section, as_section
from scconv_deploy.report.specification import channels, kinds, units
from scconv_deploy.scconv.spec import SCConvSpec
from tests.report.half_example import spec


def words(data: Mapping[str, Json]) -> str:
    return "; ".join(f"{unit} {text}" for unit, text in units(as_section(data)))


def changed(unit: str, **settings: Json) -> dict[str, Json]:
    return {**spec(), unit: {**cast("dict[str, Json]", spec()[unit]), **settings}}


def test_the_example_is_a_specification() -> None:
    assert SCConvSpec.from_json(spec()).to_json() == spec()


def test_every_setting_is_in_the_words() -> None:
    said = {words(spec())}
    for unit, settings in (
        ("sru", {"channels": 32}),
        ("sru", {"norm": "group_std"}),
        ("sru", {"groups": 8}),
        ("sru", {"eps": 1e-3}),
        ("sru", {"gamma_weight": "softmax"}),
        ("sru", {"gate": "soft"}),
        ("sru", {"comparison": "ge"}),
        ("sru", {"threshold": 0.4}),
        ("sru", {"gated": "normalised"}),
        ("sru", {"reconstruct": "within"}),
        ("sru", {"weight_eps": 1e-7}),
        ("sru", {"weight_clamp": 1e-6}),
        ("sru", {"gamma_weight": "of a later version"}),
        ("cru", {"up": 40}),
        ("cru", {"y2_order": "pwc2_only"}),
        ("cru", {"fuse": "pair"}),
    ):
        text = words(changed(unit, **cast("dict[str, Json]", settings)))
        assert text not in said, settings
        said.add(text)


def test_unusual_convolutions_are_named() -> None:
    wide: Json = {
        "c_out": 9,
        "kernel": [5, 5],
        "stride": [2, 2],
        "bias": True,
        "groups": 3,
        "padding_mode": "reflect",
    }
    said = words(changed("cru", gwc=wide))
    assert "5x5 convolution in 3 groups (stride 2, bias, reflect padding)" in said


def test_order_and_missing_units() -> None:
    assert [u for u, _ in units(as_section({**spec(), "order": "cru_sru"}))] == ["CRU", "SRU"]
    assert [u for u, _ in units(as_section({**spec(), "cru": None}))] == ["SRU"]
    assert units(as_section({})) == ()
    assert channels(as_section(spec())) == ("64", "64")
    assert channels(as_section({"sru": {"channels": 8}, "cru": None})) == ("8", "8")
    assert channels(as_section({})) is None


def test_blocks_that_compute_the_same_are_told_once() -> None:
    def block(path: str, width: int) -> Section:
        return as_section({"path": path, "variant": "F3", "spec": spec(width)})

    found = kinds((block("a", 64), block("b", 32), block("c", 64)))
    assert [k.paths for k in found] == [("a", "c"), ("b",)]
