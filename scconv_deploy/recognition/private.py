"""A user's module -> a private float64 copy that can be probed without any effect on the original."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

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
