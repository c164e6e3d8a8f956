"""The sentences, both ways, and whom they blame."""

from __future__ import annotations

import pytest

from scconv_deploy.bench.verdict import (
    NOT_COMPARED,
    NOTHING_THERE,
    blamed,
    block_sentence,
    net_sentence,
)
from scconv_deploy.measurements import Estimate
from scconv_deploy.profiles import Bound, Cost, Standing, standing


def exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def cost(name: str, ms: float, bound: Bound | None = Bound.MEMORY, share: float = 0.31) -> Cost:
    return Cost(name, 0.0, 0.0, 1.0, 0.1, bound, exact(ms), share, share, 1.0, 1.0)


FASTER, SLOWER, LEVEL = Estimate(0.7, 0.68, 0.73), Estimate(1.4, 1.3, 1.5), Estimate(1.4, 0.99, 1.8)


def test_a_standing_needs_the_whole_interval_on_one_side() -> None:
    assert [standing(r) for r in (FASTER, SLOWER, LEVEL, None)] == [
        Standing.FASTER,
        Standing.SLOWER,
        Standing.LEVEL,
        Standing.UNKNOWN,
    ]
    assert standing(Estimate(0.9, 0.8, 1.0)) is Standing.LEVEL


def test_the_two_verdicts_of_a_block() -> None:
    units = (cost("SRU", 0.3), cost("CRU", 0.7, Bound.COMPUTE, 0.69))
    assert block_sentence(FASTER, units, exact(1.4)) == (
        "faster than the plain convolution here: 0.70 of its time"
    )
    assert block_sentence(SLOWER, units, exact(0.8)) == (
        "slower: SRU is memory-bound and takes 31 % of the time; 1.40 times the plain convolution's"
    )
    assert block_sentence(LEVEL, units, exact(0.8)) == (
        "level with the plain convolution here: 0.99 to 1.80 of its time"
    )


def test_the_two_verdicts_of_a_network() -> None:
    units = (cost("SRU", 3.0), cost("CRU", 2.0))
    assert net_sentence(FASTER, units, exact(5)) == "faster than the plain network here: 0.70 of its time"
    assert net_sentence(SLOWER, units, exact(4)) == (
        "slower: SRU is memory-bound and takes 31 % of the time; 1.40 times the plain network's"
    )
    assert net_sentence(None, units, None) == NOT_COMPARED


def test_what_cannot_be_compared_says_so() -> None:
    assert block_sentence(None, (), None) == NOT_COMPARED
    assert block_sentence(None, (), exact(0.0)) == NOTHING_THERE


@pytest.mark.parametrize(
    ("sru", "cru", "plain", "name"),
    [
        (0.3, 0.7, 0.8, "SRU"),  # the CRU alone would be faster
        (0.3, 0.9, 0.8, "CRU"),  # the CRU alone is slower already
        (0.9, 0.3, 0.8, "SRU"),
        (0.9, 1.2, 0.8, "CRU"),  # each alone is slower: the longer
    ],
)
def test_blame(sru: float, cru: float, plain: float, name: str) -> None:
    found = blamed((cost("SRU", sru), cost("CRU", cru)), exact(plain))
    assert found is not None
    assert found.name == name


def test_without_units_or_bound_nothing_is_made_up() -> None:
    assert block_sentence(SLOWER, (), exact(1)) == "slower; 1.40 times the plain convolution's"
    only = (cost("SRU", 2.0, None),)
    assert "SRU takes 31 % of the time" in block_sentence(SLOWER, only, exact(1))
