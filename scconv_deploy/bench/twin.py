"""A network with certified SCConv blocks -> its plain twin: the same network with ordinary convolutions.

Every block becomes the standard convolution it stands for: the kernel, stride, padding and dilation of its
group-wise convolution, dense and without bias, from the block's input channels to its output channels. That is
what the paper replaces, and what a network without SCConv would run in this place.

* A block that is an SRU alone has no convolution in it: networks insert it beside one that they keep, so the
  plain network has nothing there, and the twin has an Identity.
* ``AvgPool2d(s)`` directly before a block in an ``nn.Sequential`` is how networks give an SCConv a stride; the
  plain network strides its convolution instead, and so does the twin, where the result keeps its shape.

The twin's new weights are random (seeded, Kaiming): its output means nothing, its time does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scconv_deploy.artifacts import RecognisedBlock, Recognition
from scconv_deploy.errors import InputError, first_line
from scconv_deploy.scconv.spec import SCConvSpec
from scconv_deploy.threads import threads_for


@dataclass(frozen=True, slots=True)
class PlainTwin:
    """The twin in eval mode. ``places`` says per block path what stands there now, in words."""

    module: nn.Module
    places: dict[str, str]
    strided: tuple[str, ...]
    """Paths of the blocks whose average pooling became a stride."""


def plain_twin(
    module: nn.Module, recognition: Recognition, example: Sequence[torch.Tensor], seed: int
) -> PlainTwin:
    """Build it; ``module`` is not changed.

    Args:
        module: the user's network.
        recognition: its certified blocks.
        example: one tensor per argument; both networks run on it once, and must give equal shapes.
        seed: of the new weights.

    Raises:
        InputError: nothing was certified, or the twin does not run where the network does.
    """
    if not recognition.blocks:
        raise InputError("no SCConv block was certified in it, so its plain twin would be the network itself")
    with torch.no_grad(), threads_for(t.numel() for t in example):
        wanted = _shapes(copy.deepcopy(module).eval(), example)
        for strided in (True, False):
            twin = _built(module, recognition.blocks, strided=strided, seed=seed)
            try:
                got = _shapes(twin.module, example)
            except Exception as error:
                if strided and twin.strided:
                    continue
                raise InputError(f"the plain twin does not run: {first_line(error)}") from error
            if got == wanted:
                return twin
    raise InputError(f"the plain twin's outputs have shapes {got}, the network's {wanted}")


def standard_convolution(spec: SCConvSpec, stride: int = 1) -> nn.Module:
    """The convolution that a block stands for; Identity for an SRU alone.

    Args:
        spec: the block.
        stride: taken over from a pooling before the block.
    """
    cru = spec.cru
    if cru is None:
        return nn.Identity()
    mode: Any = cru.gwc.padding_mode  # checked by the convolution itself
    own = [s * u for s, u in zip(cru.gwc.stride, cru.squeeze_up.stride, strict=True)]
    return nn.Conv2d(
        cru.c_in,
        cru.c_out,
        cru.gwc.kernel,
        stride=(own[0] * stride, own[1] * stride),
        padding=cru.gwc.padding,
        dilation=cru.gwc.dilation,
        bias=False,  # a BatchNorm follows, as after the block
        padding_mode=mode,
    )


def _built(module: nn.Module, blocks: Sequence[RecognisedBlock], *, strided: bool, seed: int) -> PlainTwin:
    twin = copy.deepcopy(module).eval().requires_grad_(False)
    places, absorbed = {}, []
    made: dict[int, nn.Module] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for block in blocks:
            original = twin.get_submodule(block.path)
            stride = _absorb_pooling(twin, block.path) if strided else 1
            if stride > 1:
                absorbed.append(block.path)
            # A module shared between two places stays shared.
            new = made.get(id(original))
            if new is None:
                new = made[id(original)] = _initialised(standard_convolution(block.spec, stride))
            twin = _replace(twin, block.path, new)
            places[block.path] = _words(new)
    return PlainTwin(twin, places, tuple(absorbed))


def _absorb_pooling(twin: nn.Module, path: str) -> int:
    """Take an AvgPool2d(s) that stands directly before the block out of its Sequential; returns s, else 1."""
    parent_path, _, name = path.rpartition(".")
    parent = twin.get_submodule(parent_path)
    if not path or type(parent) is not nn.Sequential:
        return 1
    names = list(parent._modules)
    position = names.index(name)
    pool = parent._modules[names[position - 1]] if position else None
    if type(pool) is not nn.AvgPool2d or pool.padding not in (0, (0, 0)):
        return 1
    size = pool.kernel_size if isinstance(pool.kernel_size, int) else pool.kernel_size[0]
    if pool.kernel_size not in (size, (size, size)) or pool.stride not in (size, (size, size)):
        return 1
    # An Identity keeps the names of the others.
    setattr(parent, names[position - 1], nn.Identity())
    return size


def _replace(twin: nn.Module, path: str, new: nn.Module) -> nn.Module:
    if not path:
        return new
    parent, _, name = path.rpartition(".")
    setattr(twin.get_submodule(parent), name, new)
    return twin


def _initialised(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return module.eval().requires_grad_(False)


def _words(module: nn.Module) -> str:
    if not isinstance(module, nn.Conv2d):
        return "nothing (an SRU alone stands for no convolution)"
    k, s = module.kernel_size, module.stride
    return f"{k[0]}x{k[1]} convolution {module.in_channels} -> {module.out_channels}, stride {s[0]}x{s[1]}"


def _shapes(module: nn.Module, example: Sequence[torch.Tensor]) -> list[tuple[int, ...]]:
    result = module(*example)
    leaves = torch.utils._pytree.tree_leaves(result)
    return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor)]
