"""What one watched forward reports: live tensors, convolutions as executed, and numbers."""

from __future__ import annotations

import torch
from torch import nn

from scconv_deploy.recognition.observe import observe
from scconv_deploy.recognition.private import private_copy
from tests.recognition import wild


def test_dead_tensors_are_not_live() -> None:
    seen, _ = observe(private_copy(wild.DeadWeight()), torch.randn(1, 16, 6, 6).double())
    assert not any(name.startswith(("unused", "old")) for name in seen.live)
    assert seen.group_norms == [(4, 1e-5)]
    assert set(seen.compared) == {0.5}


def test_convolutions_are_read_as_executed() -> None:
    module = nn.Conv2d(4, 8, 3, padding="same", dilation=2, groups=2, padding_mode="reflect", bias=False)
    seen, _ = observe(
        private_copy(nn.Sequential(nn.Conv2d(4, 4, 1), module)), torch.randn(1, 4, 9, 9).double()
    )
    first, second = seen.convs
    assert (first.weight, first.bias) == ("0.weight", "0.bias")
    assert (second.spec.c_in, second.spec.groups, second.spec.dilation) == (4, 2, (2, 2))


def test_random_operators_are_named() -> None:
    seen, _ = observe(private_copy(wild.AlwaysDropout(16)), torch.randn(1, 16, 4, 4).double())
    assert seen.random == "bernoulli_"
    seen, _ = observe(private_copy(wild.SoftUnit(16)), torch.randn(1, 16, 4, 4).double())
    assert seen.random is None


def test_a_private_copy_is_double_and_without_hooks() -> None:
    module = nn.Conv2d(2, 2, 1).half().train()
    module.register_forward_hook(lambda *_: None)
    twin = private_copy(module)
    assert twin.weight.dtype is torch.float64
    assert not twin.training
    assert not twin._forward_hooks
    assert module._forward_hooks
    assert module.weight.dtype is torch.float16
