"""The specification: JSON both ways, hashable, and refusing what cannot be a block."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.scconv.spec import ConvSpec, Norm, Order, SCConvSpec
from tests.scconv.axes import base, cru, flat_groups, gwc, specifications, sru, uneven_cru

SPECIFICATIONS = specifications() | {"flat groups": flat_groups(), "reflect": gwc(3, mode="reflect")}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_json_round_trip(name: str) -> None:
    spec = SPECIFICATIONS[name]
    assert SCConvSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_specifications_tell_themselves_apart() -> None:
    distinct = set(SPECIFICATIONS.values())
    # Cases may repeat the centre (F3's own value of an axis), never anything else.
    repeats = [s for s in SPECIFICATIONS.values() if s == base()]
    assert len(distinct) == len(SPECIFICATIONS) - len(repeats) + 1
    assert len({json.dumps(s.to_json(), sort_keys=True) for s in distinct}) == len(distinct)


def test_equal_specifications_have_equal_hashes() -> None:
    assert hash(base()) == hash(SCConvSpec.from_json(base().to_json()))


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        base().order = Order.CRU_SRU  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"channels": 7}, "even number"),
        ({"channels": 0}, "even number"),
        ({"groups": 0}, "cannot have 0 groups"),
        ({"groups": 9}, "cannot have 9 groups"),
        ({"groups": 3}, "divisible by groups"),
    ],
)
def test_sru_refusals(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        sru(**changes)


def test_group_std_accepts_groups_that_do_not_divide() -> None:
    spec = sru(groups=3, norm=Norm.GROUP_STD).sru
    assert spec is not None
    assert spec.groups == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"up": 3}, "squeeze_up input = up"),
        ({"low": 5}, "squeeze_low input = low"),
        ({"squeeze_up": ConvSpec(4, 3)}, "GWC input = squeeze_up output"),
        ({"pwc1": ConvSpec(2, 7)}, "PWC1 output = GWC output"),
        ({"squeeze_low": ConvSpec(4, 3)}, "PWC2 input = squeeze_low output"),
        ({"pwc2": ConvSpec(2, 5)}, "Y2 channels = Y1 channels"),
    ],
)
def test_cru_refusals(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        cru(**changes)


def test_block_refusals() -> None:
    with pytest.raises(InputError, match="at least one unit"):
        SCConvSpec(None, None)
    with pytest.raises(InputError, match="8 channels where the CRU has 10"):
        SCConvSpec(base().sru, uneven_cru(), Order.CRU_SRU)
    with pytest.raises(InputError, match="8 channels where the CRU has 12"):
        SCConvSpec(base().sru, uneven_cru(c_in=12))


@pytest.mark.parametrize("drop", ["sru", "cru", "order"])
def test_json_without_a_part_is_refused(drop: str) -> None:
    data = base().to_json()
    del data[drop]
    with pytest.raises(InputError, match="not an SCConv specification"):
        SCConvSpec.from_json(data)


def test_json_with_an_unknown_value_is_refused() -> None:
    data = base().to_json()
    data["sru"]["gate"] = "sometimes"
    with pytest.raises(InputError, match="sometimes"):
        SCConvSpec.from_json(data)
    data = base().to_json()
    data["cru"]["gwc"]["colour"] = 1
    with pytest.raises(InputError, match="colour"):
        SCConvSpec.from_json(data)


def test_channels_in_and_out_follow_the_order() -> None:
    forward = SCConvSpec(base().sru, uneven_cru())
    assert (forward.c_in, forward.c_out) == (8, 10)
    only_sru, only_cru = SCConvSpec(base().sru, None), SCConvSpec(None, uneven_cru())
    assert (only_sru.c_in, only_sru.c_out) == (8, 8)
    assert (only_cru.c_in, only_cru.c_out) == (8, 10)
    assert only_cru.cru is not None
    assert only_cru.cru.c_in == 8
    backward = specifications()["uneven CRU then SRU"]
    assert (backward.c_in, backward.c_out) == (8, 10)
    assert replace(only_sru, order=Order.CRU_SRU).c_in == 8
