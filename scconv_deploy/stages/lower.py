"""lower: :class:`SourceModel` + :class:`Recognition` -> a private copy with deploy modules, folded and typed.

The user's module is never modified. Every certified block is replaced by a
:class:`~scconv_deploy.scconv.deploy.DeploySCConv` built from the block's own constants; everything else stays
as it is. Then BatchNorms are folded into the convolution (or SCConv block) whose only consumer they are, in
float32 with constants from float64; only after that is a half-precision model cast, so that every folded
weight is rounded once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from scconv_deploy.artifacts import LoweredModel, RecognisedBlock, Recognition, SourceModel, TensorSpec
from scconv_deploy.config import Precision
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import copied, reason, run_once
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.fold import fold_batch_norms
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.typed import TORCH_TYPES, cast_module, typed_inputs
from scconv_deploy.threads import threads_for


def run(
    source: SourceModel,
    recognition: Recognition,
    style: GraphStyle,
    example: Sequence[torch.Tensor],
    inputs: Sequence[TensorSpec],
    precision: Precision = Precision.FP32,
    styles: Mapping[str, GraphStyle] | None = None,
) -> LoweredModel:
    """Copy, replace, fold, and cast where ``precision`` is fp16 or bf16.

    Args:
        source: the user's module (in any mode; the copy is put into eval mode).
        recognition: certified blocks with the names of their tensors.
        style: exact graph forms the target runs best.
        example: one small input per argument; the copy runs on it once to see which BatchNorm follows what.
        inputs: the arguments' names, for the message where the model refuses ``example``.
        precision: type of the module that is traced; fp32, fp16 or bf16.
        styles: by block path, where a block has a style of its own (``--autotune``).

    Raises:
        InputError: the user's own module cannot be copied, does not run on ``example``, or cannot be cast.
    """
    if precision is Precision.FP32:
        style = replace(style, gate_in_half=False)
    reference = copied(source.module).eval()
    with threads_for(t.numel() for t in example):
        run_once(reference, example, inputs)
    lowered = copy.deepcopy(reference)
    notes: list[str] = []
    made: dict[int, DeploySCConv] = {}
    for block in recognition.blocks:
        original = reference.get_submodule(block.path)
        # A module shared between two places stays shared.
        deploy = made.get(id(original))
        if deploy is None:
            deploy = made[id(original)] = _deploy(reference, block, (styles or {}).get(block.path, style))
            notes += _warnings(block, deploy)
        lowered = _replace(lowered, block.path, deploy)
    with threads_for(t.numel() for t in example):
        folded = fold_batch_norms(lowered, example)
    exact = lowered.requires_grad_(False)
    module = exact
    if precision is not Precision.FP32:
        module = _typed(exact, precision, example)
        notes += _unprotected(recognition, precision)
    return LoweredModel(
        module=module,
        reference=reference,
        recognition=recognition,
        block_paths=tuple(block.path for block in recognition.blocks),
        folded=folded,
        notes=tuple(notes),
        precision=precision,
        exact=exact,
        original=source.original,
    )


def _typed(exact: nn.Module, precision: Precision, example: Sequence[torch.Tensor]) -> nn.Module:
    """A copy in half precision that was seen to run."""
    module = cast_module(copy.deepcopy(exact), precision)
    half = typed_inputs(example, TORCH_TYPES[precision])
    try:
        with torch.no_grad(), threads_for(t.numel() for t in half):
            module(*half)
    except Exception as error:
        raise InputError(
            f"the model runs in fp32 but not in {precision.value}: {reason(error)}; its own forward probably "
            "makes float32 tensors (torch.zeros, torch.tensor, .float()) that meet half-precision ones: give "
            "them the dtype of its input, or export with --precision fp32"
        ) from error
    return module


def _unprotected(recognition: Recognition, precision: Precision) -> list[str]:
    """Look-alikes run in the half type as PyTorch would run them."""
    return [
        f"{left.path or 'the model'} looks like SCConv and is not certified, so in {precision.value} its gate is "
        "not protected: it computes as PyTorch does in that type, which may flip many of its decisions"
        for left in recognition.left_as_is
    ]


def _deploy(reference: nn.Module, block: RecognisedBlock, style: GraphStyle) -> DeploySCConv:
    weights = {role: _tensor(reference, name) for role, name in block.parameters.items()}
    return DeploySCConv(block.spec, weights, style).eval()


def _tensor(model: nn.Module, name: str) -> torch.Tensor:
    """By attribute, since a parametrised weight (weight norm) is under its name no stored tensor."""
    owner, _, attribute = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(owner), attribute)
    return tensor


def _replace(model: nn.Module, path: str, new: nn.Module) -> nn.Module:
    if not path:
        return new
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)
    return model


def _warnings(block: RecognisedBlock, deploy: DeploySCConv) -> list[str]:
    bad = [name for name, value in deploy.named_buffers() if value is not None and not value.isfinite().all()]
    if not bad:
        return []
    return [
        f"{block.path or 'the model'}: the gamma weights are not finite (sum of gamma is zero?); the layer "
        "computes inf or NaN in PyTorch too, and is exported as it is"
    ]
