"""A user's module -> a private float64 copy that can be probed without any effect on the original."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from scconv_deploy.recognition.observe import tensors

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def private_copy(module: nn.Module, *, hooks: bool = False) -> nn.Module:
    """A deep copy in float64, eval mode, on the CPU, without hooks (they may write to the user's objects).

    The stored values are kept exactly: float16, bfloat16 and float32 all fit into float64.

    Args:
        module: stays untouched.
        hooks: keep the forward hooks; only to prove that they do not change the output.

    Raises:
        Exception: whatever the module's own ``__deepcopy__`` raises (graph tensors, open files, locks).
    """
    memo: dict[int, object] = {}
    if not hooks:
        # deepcopy asks its memo first: an empty table there is copied in place of the user's hooks.
        for child in module.modules():
            for table in _HOOK_TABLES:
                value = child.__dict__.get(table)
                if value is not None:
                    memo[id(value)] = OrderedDict()
    twin: nn.Module = copy.deepcopy(module, memo)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # copies of scripted modules hold non-leaf parameters
        twin = twin.cpu().double().eval()
    _store_parametrised(twin)
    return twin


def _store_parametrised(twin: nn.Module) -> None:
    """Tensors computed on access (weight norm, spectral norm) become plain parameters of the copy.

    ``remove_parametrizations`` must not be used: it deletes the property from a class that the copy shares
    with the user's module.
    """
    for child in list(twin.modules()):
        if not parametrize.is_parametrized(child):
            continue
        computed = cast(nn.ModuleDict, child.parametrizations)
        with torch.no_grad():
            values = {name: getattr(child, name).detach().clone() for name in computed}
        child.__class__ = parametrize.type_before_parametrizations(child)
        del child._modules["parametrizations"]
        for name, value in values.items():
            child.register_parameter(name, nn.Parameter(value, requires_grad=False))


def has_hooks(module: nn.Module) -> bool:
    """Whether calling any part of the module runs user hooks."""
    return any(child.__dict__.get(table) for child in module.modules() for table in _HOOK_TABLES[:2])


class ForwardError(Exception):
    """The user's forward failed on a probe; ``__cause__`` is what it raised."""


def call(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` without gradients and on a copy of x: in-place forwards must not spoil the probe."""
    try:
        with torch.no_grad():
            y: object = module(x.clone())
    except Exception as error:  # user code may raise anything
        raise ForwardError from error
    if not isinstance(y, Tensor):
        cause = TypeError(f"it returns {type(y).__name__} where an SCConv block returns one tensor")
        raise ForwardError from cause
    return y


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer by name."""
    return {name: tensor.detach().clone() for name, tensor in tensors(module).items()}


def rewritten(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str | None:
    """A forward that adds or rewrites its own tensors is stateful."""
    new = [name for name in after if name not in before]
    if new:
        return f"its forward builds layers or tensors of its own on first use ('{new[0]}')"
    for name, value in before.items():
        if name in after and not torch.equal(value.nan_to_num(), after[name].nan_to_num()):
            return f"its forward rewrites its own state ('{name}'), so its output depends on earlier calls"
    return None


def counting(module: nn.Module, x: Tensor) -> str | None:
    """A forward that counts its calls in a plain attribute may act on it at any later call.

    Sizes kept from the last input are no count: two equal calls leave the same numbers.
    """
    seen: list[dict[str, object]] = []
    for _ in range(2):
        try:
            call(module, x.double())
        except ForwardError:
            return "its forward accepts an input once and not again"
        seen.append(
            {
                f"{path}.{name}".lstrip("."): value
                for path, child in module.named_modules()
                for name, value in vars(child).items()
                if isinstance(value, (int, float))
            }
        )
    name = next((n for n, value in seen[1].items() if seen[0].get(n) != value), None)
    return name and f"its forward counts its calls ('{name}'), so its output may depend on earlier calls"
