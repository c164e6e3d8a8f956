"""The stage leaves no trace in global state, and repeats exactly."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from scconv_deploy.scconv.reference import scconv
from scconv_deploy.stages.recognise import run


class Noisy(nn.Module):
    """User code that draws from every global generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        random.random()
        np.random.rand()
        return x + 0 * torch.rand(1)


def test_global_state_is_left_as_it_was() -> None:
    model = nn.Sequential(Noisy(), scconv("F3", 16))
    before = (
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_num_threads(),
    )
    found = run(model)
    assert [b.path for b in found.blocks] == ["1"]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()
    assert before[3] == torch.get_num_threads()


def test_the_same_seed_gives_the_same_certificate() -> None:
    torch.manual_seed(0)
    model = scconv("F1", 16)
    assert run(model, seed=3) == run(model, seed=3)
    assert run(model, seed=3).blocks[0].certificate.seed == 3
    assert run(model, seed=4).blocks[0].variant == "F1"


def test_names_lead_back_to_the_users_tensors() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ModuleDict({"deep": scconv("F2", 16)})["deep"])
    block = run(model).blocks[0]
    tensors = dict(model.named_parameters())
    assert set(block.parameters.values()) <= set(tensors)
    assert tensors[block.parameters["gamma"]].numel() == 16
    assert set(block.parameters) == {
        *("gamma", "beta", "gwc.weight", "gwc.bias"),
        *(f"{role}.weight" for role in ("squeeze_up", "squeeze_low", "pwc1", "pwc2")),
    }
