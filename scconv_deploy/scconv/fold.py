"""Conv + BatchNorm -> Conv, and SCConv + BatchNorm -> SCConv with a scaled fuse; exact in real arithmetic.

``BN(W*x + b) = (a W)*x + (a b + c)`` with ``a = gamma / sqrt(var + eps)`` and ``c = beta - a * mean``
(inference mode; equation of Ioffe and Szegedy, 2015). Constants are computed in float64 and rounded once.

Which BatchNorm follows which producer is found by running the model once: tensors are followed by identity,
and a pair is folded only if the producer ran once and the BatchNorm was its output's only consumer. So no
symbolic tracing is needed and any Python control flow is allowed. Refused, because the pair would not be
what it looks like: subclasses (a weight-standardising Conv, a BatchNorm with its own activation), weights
that a hook or parametrisation recomputes, hooks of the user's on either module, and parameters that are
read by more than the module's own call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from scconv_deploy.scconv.deploy import DeploySCConv

FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
METADATA = frozenset({"__get__", "size", "dim", "numel", "stride"})
"""Calls that read a tensor's shape, not its values, unless they return a tensor (``x.T``, ``x.data``)."""
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms(model: nn.Module, example: Sequence[torch.Tensor]) -> tuple[tuple[str, str], ...]:
    """Fold in place (``model`` must be a private copy in eval mode); returns (producer, BatchNorm) paths.

    Args:
        model: module whose forward takes ``example`` positionally.
        example: one tensor per argument, as small as the model accepts.
    """
    flow = _watch(model, example)
    paths = {id(module): path for path, module in model.named_modules()}
    folded: list[tuple[str, str]] = []
    for path, norm in list(model.named_modules()):
        if not _is_plain(norm, NORMS) or norm.training or norm.running_mean is None:
            continue
        producer = flow.only_producer(norm)
        if producer is None or not _is_plain(producer, (*FOLDABLE, DeploySCConv)):
            continue
        if (
            not flow.owns_its_tensors(norm)
            or not flow.owns_its_tensors(producer)
            or not _fold(producer, norm)
        ):
            continue
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
        folded.append((paths[id(producer)], path))
    return tuple(folded)


def _is_plain(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Exactly one of these classes, computing with its own stored weights and nothing attached to it."""
    if type(module) not in kinds or torch.nn.utils.parametrize.is_parametrized(module):
        return False
    attached = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return not attached and "forward" not in vars(module)


@dataclass
class _Flow:
    """Who made which tensor and how often it was read. Tensors are kept alive so that ids stay unique."""

    kept: list[torch.Tensor] = field(default_factory=list)
    made_by: dict[int, nn.Module] = field(default_factory=dict)
    reads: Counter[int] = field(default_factory=Counter)
    calls: Counter[int] = field(default_factory=Counter)
    norm_input: dict[int, int] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)
    watched: set[int] = field(default_factory=set)
    """Tensors whose reads are counted: outputs of producers, and all parameters and buffers."""

    def only_producer(self, norm: nn.Module) -> nn.Module | None:
        """The producer whose output ``norm`` alone reads, if both ran exactly once."""
        tensor = self.norm_input.get(id(norm))
        producer = self.made_by.get(tensor) if tensor is not None else None
        if producer is None or tensor is None or tensor in self.returned:
            return None
        once = self.calls[id(norm)] == 1 and self.calls[id(producer)] == 1
        return producer if once and self.reads[tensor] == 1 else None

    def owns_its_tensors(self, module: nn.Module) -> bool:
        """Whether nobody but the module's single call reads its tensors: they are about to change."""
        if isinstance(module, DeploySCConv):
            return True  # our own constants, made for this block
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        return all(self.reads[id(t)] <= 1 for t in tensors)


class _CountReads(TorchFunctionMode):
    """Counts how often each tensor is an argument of a torch call (attribute reads do not count)."""

    def __init__(self, flow: _Flow) -> None:
        super().__init__()
        self.flow = flow

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in METADATA or isinstance(result, torch.Tensor):
            for leaf in tree_leaves((args, kwargs or {})):
                if isinstance(leaf, torch.Tensor) and id(leaf) in self.flow.watched:
                    self.flow.reads[id(leaf)] += 1
        return result


def _watch(model: nn.Module, example: Sequence[torch.Tensor]) -> _Flow:
    flow = _Flow(watched={id(t) for t in [*model.parameters(), *model.buffers()]})

    def made(module: nn.Module, _inputs: Any, output: Any) -> None:
        flow.calls[id(module)] += 1
        if isinstance(output, torch.Tensor):
            flow.kept.append(output)
            flow.made_by[id(output)] = module
            flow.watched.add(id(output))

    def read(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        flow.calls[id(module)] += 1
        if inputs and isinstance(inputs[0], torch.Tensor):
            flow.norm_input[id(module)] = id(inputs[0])

    handles = []
    for module in model.modules():
        if isinstance(module, (*FOLDABLE, DeploySCConv)):
            handles.append(module.register_forward_hook(made))
        elif isinstance(module, NORMS):
            handles.append(module.register_forward_pre_hook(read))
    try:
        with torch.no_grad(), _CountReads(flow):
            result = model(*example)
    finally:
        for handle in handles:
            handle.remove()
    flow.returned = {id(leaf) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
    return flow


def _fold(producer: nn.Module, norm: nn.Module) -> bool:
    scale, shift = _affine(cast(nn.BatchNorm2d, norm))
    if isinstance(producer, DeploySCConv):
        if producer.cru is None or producer.spec.c_out != scale.numel() or not producer.ends_with_cru:
            return False
        dtype = next(producer.cru.parameters()).dtype
        producer.cru.fold_batch_norm(scale.to(dtype), shift.to(dtype))
        return True
    conv = cast(nn.Conv2d, producer)
    if conv.out_channels != scale.numel():
        return False
    wide = conv.weight.detach().double()
    if isinstance(conv, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        # (C_in, C_out/groups, ...): output channel g*C_out/groups + j sits in rows of group g, column j.
        groups = conv.groups
        per_group = wide.reshape(groups, wide.shape[0] // groups, *wide.shape[1:])
        factor = scale.reshape(groups, 1, -1, *[1] * (wide.ndim - 2))
        wide = (per_group * factor).reshape(wide.shape)
    else:
        wide = wide * scale.reshape(-1, *[1] * (wide.ndim - 1))
    bias = conv.bias.detach().double() if conv.bias is not None else torch.zeros_like(shift)
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter(wide.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter((bias * scale + shift).to(dtype), requires_grad=False)
    return True


def _affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """``a`` and ``c`` in float64, each (C,)."""
    mean = cast(torch.Tensor, norm.running_mean).detach().double()
    variance = cast(torch.Tensor, norm.running_var).detach().double()
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    shift = -mean * scale
    return scale, shift + norm.bias.detach().double() if norm.affine else shift
