"""Private copies: exact values, no hooks, no shared classes; and what a forward did to its own state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from scconv_deploy.recognition.private import (
    ForwardError,
    call,
    counting,
    has_hooks,
    private_copy,
    rewritten,
    state,
)
from tests.recognition import odd_forwards, wild
from tests.recognition.near_misses import C, Plain

X = torch.linspace(-1.0, 1.0, 2 * C * 15, dtype=torch.float64).view(2, C, 3, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_copy_holds_the_stored_values_in_float64(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = Plain().to(dtype).train()
    twin = private_copy(module)
    assert not twin.training
    for name, value in module.state_dict().items():
        assert twin.state_dict()[name].dtype is torch.float64
        assert torch.equal(twin.state_dict()[name].to(dtype), value)
        assert torch.equal(twin.state_dict()[name], value.double())


def test_hooks_stay_behind_unless_asked_for() -> None:
    module = nn.Sequential(Plain())
    module[0].gn.register_forward_hook(lambda _m, _i, out: 2 * out)
    assert has_hooks(module)
    assert not has_hooks(private_copy(module))
    assert has_hooks(private_copy(module, hooks=True))
    without, with_hook = private_copy(module)(X), private_copy(module, hooks=True)(X)
    assert not torch.allclose(without, with_hook)


@pytest.mark.parametrize("change", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_computed_weights_are_stored_in_the_copy_only(change: Callable[[nn.Module], object]) -> None:
    torch.manual_seed(0)
    module = Plain().double().eval()
    change(module.gwc)
    with torch.no_grad():
        expected, weight = module(X), module.gwc.weight.clone()
    twin = private_copy(module)
    assert isinstance(twin.gwc, nn.Conv2d)
    assert type(twin.gwc) is nn.Conv2d
    assert torch.equal(dict(twin.named_parameters())["gwc.weight"], weight)
    assert torch.equal(call(twin, X), expected)
    # The user's module is still parametrised, and still works: the class of the two was not shared.
    assert parametrize.is_parametrized(module.gwc)
    with torch.no_grad():
        next(module.gwc.parametrizations.parameters()).normal_()
        assert not torch.equal(module(X), expected)


def test_calls_get_their_own_input_and_failures_are_told_apart() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(0)

    x = X.clone()
    assert not call(InPlace(), x).any()
    assert torch.equal(x, X)
    with pytest.raises(ForwardError) as failed:
        call(Plain().double(), X[:, :3])
    assert isinstance(failed.value.__cause__, RuntimeError)


def test_rewritten_state_is_named() -> None:
    module = wild.Counting(C).double()
    before = state(module)
    assert rewritten(before, state(module)) is None
    module(X)
    assert "'calls'" in str(rewritten(before, state(module)))
    lazy = wild.LazyLayer(C).double()
    before = state(lazy)
    lazy(X)
    assert "'extra'" in str(rewritten(before, state(lazy)))


def test_counting_is_told_from_keeping_sizes() -> None:
    assert "'seen'" in str(counting(private_copy(odd_forwards.LateCounter()), X))
    assert counting(private_copy(odd_forwards.KeepsSizes()), X) is None
    assert counting(private_copy(Plain()), X) is None
