"""The table of cards, and how one is chosen."""

from __future__ import annotations

import pytest

from exporters.trt.capability import member
from exporters.trt.cards import CARDS, PREFERRED, Card, choose
from scconv_deploy.errors import InputError


@pytest.mark.parametrize("name", ["RTX 4090", "rtx4090", "Rtx-4090"])
def test_a_card_by_name_in_any_spelling(name: str) -> None:
    card = choose(name, ("sm_80",))
    assert card is not None
    assert card.name == "RTX 4090"


def test_a_card_by_capability_the_most_widespread_first() -> None:
    by_one = {c: choose(None, (c,)) for c in PREFERRED}
    assert all(card is not None and card.capability == c for c, card in by_one.items())
    assert choose(None, ("sm_80", "sm_89", "sm_120")) == by_one["sm_89"]
    assert choose(None, ("sm_121",)) is None
    assert choose(None, ()) is None


def test_an_unknown_card_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"--card 'L4O' is not in the table; choose one of T4, .*L4"):
        choose("L4O", ("sm_89",))


@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.name)
def test_figures_are_plausible(card: Card) -> None:
    assert member(card.capability)
    assert 200 <= card.bandwidth <= 10_000
    assert card.fp32 < card.half <= card.int8
    assert card.fp8 == 0 or card.fp8 >= card.half
    assert card.rate("fp32") == card.fp32
    assert card.rate("bf16") == card.rate("fp16") == card.half
    assert card.rate("fp8") == (card.fp8 or card.fp32)


def test_names_are_told_apart() -> None:
    assert len({c.name for c in CARDS}) == len(CARDS)
