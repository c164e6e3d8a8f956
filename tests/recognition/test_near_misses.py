"""No module that computes something else is ever accepted, and each is named with its reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from scconv_deploy.recognition.walk import recognise
from tests.recognition import strangers
from tests.recognition.near_misses import NEAR_MISSES, Plain
from tests.recognition.odd_forwards import FORWARDS, KeepsSizes

ALL = [*NEAR_MISSES, *FORWARDS]

REASONS = {
    "BatchNorm between": "batch normalisation",
    "ReLU between": "a ReLU",
    "PReLU between": "3 tensors beside convolutions",
    "dropout that stays on": "draws random numbers",
    "hard-sigmoid": "nearest is SRU[group_norm(2, eps=1e-05), weight sum, soft gate > 0.5",
    "learned fusion weights": "6 convolutions where a CRU has 5",
    "max pooled": "global max pooling",
    "another path for dark images": "another path on inputs that were not tried",
    "a list for a tensor": "returns list",
    "random gate": "aten.rand_like",
    "counts its calls, to act later": "counts its calls ('seen')",
    "mean absolute deviation": "compares no normalised values",
}


def test_the_figure() -> None:
    assert len(ALL) + len(strangers.NAMED) >= 60
    assert set(REASONS) <= {name for name, _ in ALL}
    assert len({name for name, _ in ALL}) == len(ALL)


@pytest.mark.parametrize("make", [Plain, KeepsSizes])
def test_what_the_near_misses_miss_is_accepted(make: Callable[[], nn.Module]) -> None:
    """The control: without its one difference each of them would be found."""
    torch.manual_seed(0)
    found = recognise(make())
    assert [(b.path, b.variant) for b in found.blocks] == [("", "F3")]
    assert not found.left_as_is


@pytest.mark.parametrize(("name", "make"), ALL, ids=[row[0] for row in ALL])
def test_near_misses_are_left_as_they_are(name: str, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    found = recognise(make())
    assert not found.blocks
    assert [item.path for item in found.left_as_is] == [""]
    assert REASONS.get(name, "") in found.left_as_is[0].reason


@pytest.mark.parametrize("make", [row[1] for row in strangers.SILENT], ids=[r[0] for r in strangers.SILENT])
def test_strangers_are_passed_over(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    found = recognise(make())
    assert not found.blocks
    assert not found.left_as_is


@pytest.mark.parametrize(
    ("make", "reason"), [row[1:] for row in strangers.NAMED], ids=[row[0] for row in strangers.NAMED]
)
def test_look_alikes_are_named(make: Callable[[], nn.Module], reason: str) -> None:
    torch.manual_seed(0)
    found = recognise(make())
    assert not any(b.path == "" for b in found.blocks)
    assert any(reason in item.reason for item in found.left_as_is), found.left_as_is
