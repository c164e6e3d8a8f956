"""A float32 module with deploy blocks -> the same module in fp16 or bf16, types being what the graph will say.

Everything is cast to the half type but, in each :class:`~scconv_deploy.scconv.deploy.DeploySCConv`, the gate's
constants (see ``deploy_sru``: they make its island) and the fuse's BatchNorm scale (see ``deploy_cru``). In a
style with the gate in half precision, or in the literal form, only the latter.

A weight beyond the type's range would turn into inf, and a whole tensor below its smallest number into zeros;
both are refused in words, since the user can choose bf16, whose range is float32's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from scconv_deploy.config import Precision
from scconv_deploy.errors import InputError
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.deploy_sru import gate_is_half

TORCH_TYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
GATE_CONSTANTS = ("gate_scale", "gate_shift", "magnitude", "gamma", "beta", "weight", "sign")


def cast_module(model: nn.Module, precision: Precision) -> nn.Module:
    """Cast in place (``model`` must be a private copy, BatchNorms folded already); returns it.

    Raises:
        InputError: a tensor does not fit into the type; the message names it and what to do.
    """
    dtype = TORCH_TYPES[precision]
    _must_fit(model, precision, dtype)
    wide = [(owner, name, value) for m in model.modules() for owner, name, value in _wide_constants(m)]
    model.to(dtype)
    for owner, name, value in wide:
        setattr(owner, name, value)
    return model


def typed_inputs(example: Sequence[torch.Tensor], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The floating tensors cast to ``dtype``, the others as they are."""
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in example)


def _wide_constants(module: nn.Module) -> list[tuple[nn.Module, str, torch.Tensor]]:
    if not isinstance(module, DeploySCConv):
        return []
    names: list[tuple[nn.Module, str]] = []
    if module.sru is not None and not gate_is_half(module.sru.spec, module.style):
        names += [(module.sru, name) for name in GATE_CONSTANTS]
    if module.cru is not None:
        names.append((module.cru, "post_scale"))
    found = [(owner, name, getattr(owner, name, None)) for owner, name in names]
    return [(owner, name, value.float()) for owner, name, value in found if value is not None]


def _must_fit(model: nn.Module, precision: Precision, dtype: torch.dtype) -> None:
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        finite = tensor.detach()[tensor.detach().isfinite()]
        extreme = finite.abs().max().item() if finite.numel() else 0.0
        if not finite.to(dtype).isfinite().all():
            what = f"holds {extreme:.4g}, beyond the largest number of {precision.value} ({largest:.4g})"
        elif 0.0 < extreme < smallest and not finite.to(dtype).any():
            what = (
                f"is at most {extreme:.4g}, which rounds to zero in {precision.value} "
                f"(its smallest normal number is {smallest:.4g})"
            )
        else:
            continue
        other = " use --precision bf16, which has float32's range," if precision is Precision.FP16 else ""
        raise InputError(f"the tensor '{name}' {what};{other} or rescale that layer, or export in fp32")
