"""The cheap filter, the channel counts worth a trial, and who could be gamma."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from scconv_deploy.recognition.observe import observe, tensors
from scconv_deploy.recognition.structure import (
    Anatomy,
    attribute_numbers,
    dissect,
    input_channels,
    may_be_block,
)
from tests.recognition import strangers, wild

C = 16


def weight_normed() -> nn.Module:
    module = wild.TwoBranch(C)
    for part in list(module.children()):
        parametrizations.weight_norm(part)
    return module


CANDIDATES: list[tuple[str, Callable[[], nn.Module]]] = [
    ("SRU", lambda: wild.SoftUnit(C)),
    ("vectors of shape (1, C, 1, 1)", lambda: wild.WithinUnit(C)),
    ("CRU", lambda: wild.TwoBranch(C)),
    ("squeeze to one channel", lambda: wild.TwoBranch(8, sq=4, g=1)),
    ("weight-normed CRU", weight_normed),
    ("both", lambda: wild.Both(wild.SoftUnit(C), wild.TwoBranch(C))),
    ("dead parameters", wild.DeadWeight),
]


@pytest.mark.parametrize("make", [row[1] for row in CANDIDATES], ids=[row[0] for row in CANDIDATES])
def test_every_block_passes_the_filter(make: Callable[[], nn.Module]) -> None:
    assert may_be_block(make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.GroupNorm(4, C),
        lambda: nn.Linear(C, C),
        lambda: nn.ModuleList([wild.SoftUnit(C)]),
        lambda: nn.Sequential(nn.Conv2d(3, C, 3), nn.ReLU()),
        lambda: nn.Sequential(*(nn.Conv2d(C, C, 3) for _ in range(12))),
        strangers.SPConv,
        lambda: nn.TransformerEncoderLayer(C, 2, 32),
    ],
)
def test_ordinary_modules_do_not(make: Callable[[], nn.Module]) -> None:
    assert not may_be_block(make())


@pytest.mark.parametrize(("c", "ratio"), [(16, 0.5), (16, 0.25), (24, 0.75)])
def test_the_right_channel_count_is_tried_early(c: int, ratio: float) -> None:
    assert input_channels(wild.SoftUnit(c))[0] == c
    assert input_channels(wild.Both(wild.SoftUnit(c), wild.TwoBranch(c, ratio=ratio, g=1)))[0] == c
    assert c in input_channels(wild.TwoBranch(c, ratio=ratio, g=1))[:6]
    assert 8 in input_channels(wild.TwoBranch(8, sq=4, g=1))[:6]


def anatomy(module: nn.Module) -> Anatomy | str:
    twin = module.double().eval()
    seen, _ = observe(twin, torch.randn(2, C, 6, 6, dtype=torch.float64))
    return dissect(seen, tensors(twin), set(dict(twin.named_parameters())))


def test_gamma_is_what_is_multiplied_and_summed_whatever_its_name() -> None:
    found = anatomy(wild.WithinUnit(C))
    assert isinstance(found, Anatomy)
    assert (found.gamma, found.beta) == ("m", "a")  # 'a' is declared first and starts at zero
    found = anatomy(wild.FlatEverything(C))
    assert isinstance(found, Anatomy)
    assert (found.gamma, found.beta) == ("p0", "p1")
    assert [c.weight for c in found.convs] == ["k.0", "k.1", "k.2", "k.3", "k.4"]
    assert found.convs[2].bias == "offset"


def test_what_has_no_place_is_named() -> None:
    assert "6 convolutions" in str(anatomy(nn.Sequential(wild.TwoBranch(C), nn.Conv2d(C, C, 1))))
    assert "batch normalisation" in str(anatomy(nn.Sequential(wild.SoftUnit(C), nn.BatchNorm2d(C))))
    assert "3 tensors beside" in str(anatomy(nn.Sequential(wild.SoftUnit(C), nn.PReLU(C))))


def test_numbers_come_from_the_users_classes_not_from_torchs() -> None:
    integers, floats = attribute_numbers(wild.Both(wild.HardUnit(C, 4, gate_t=0.3), wild.TwoBranch(C)))
    assert 0.3 in floats
    assert 1e-10 in floats
    assert 4 in integers
    assert 3 not in integers  # kernel sizes live in nn.Conv2d
