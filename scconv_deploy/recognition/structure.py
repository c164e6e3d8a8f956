"""A module and what one forward of it did -> which tensor could be gamma, beta, and each convolution.

Roles come from use and shape, never from a name: five executed convolutions that can be wired as a CRU, two
per-channel vectors for an SRU, scalars beside them (a threshold kept as a Parameter), and nothing else alive.
Dead parameters (an unused convolution or unit) are legal and ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from scconv_deploy.recognition.observe import ConvCall, Observation

CRU_CONVOLUTIONS = 5
_CONV_NDIM = 4
MAX_CONVOLUTIONS = 10
MAX_VECTORS = 16


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Tensors by what they may be: ``gamma`` and ``beta`` (names) of an SRU, the convolutions of a CRU.

    ``weight`` is a stored gamma weight and ``mask`` a stored static mask, as programs have them.
    """

    gamma: str | None
    beta: str | None
    channels: int
    convs: tuple[ConvCall, ...]
    weight: str | None = None
    mask: str | None = None

    @property
    def vectors(self) -> dict[str, str]:
        """Role -> name of every per-channel vector."""
        roles = {"gamma": self.gamma, "beta": self.beta, "weight": self.weight, "mask": self.mask}
        return {role: name for role, name in roles.items() if name is not None}


def may_be_block(module: nn.Module) -> bool:
    """Cheap filter by parameter shapes: could this be an SRU, a CRU, or both, with nothing else alive?"""
    if not has_forward(module) or _is_torch_leaf(module):
        return False
    convs = vectors = either = 0
    for parameter in _stored(module):
        if _is_kernel(parameter):
            convs += 1
        elif parameter.ndim >= 2 and parameter.numel() > max(parameter.shape):
            return False
        elif parameter.numel() > 1:
            vectors += 1
            either += _may_be_kernel(parameter)
        if convs > MAX_CONVOLUTIONS or vectors > MAX_VECTORS:
            return False
    norms = sum(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())
    buffers = sum(b.numel() > 1 for b in module.buffers()) if not convs else 0
    if norms > 1:
        return False
    return convs + either >= CRU_CONVOLUTIONS or (convs == 0 and vectors + buffers >= 2)


def _stored(module: nn.Module) -> Iterator[Tensor]:
    """Parameters; of one that is computed from parts (weight norm: magnitude and direction) the largest part."""
    parts: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owner, computed, rest = name.rpartition("parametrizations.")
        place = owner + computed + rest.partition(".")[0] if computed else name
        if place not in parts or parameter.numel() > parts[place].numel():
            parts[place] = parameter
    yield from parts.values()


def _is_kernel(tensor: Tensor) -> bool:
    """Shaped like a convolution's weight; (C, 1, 1, 1) is one, (1, C, 1, 1) and (C, 1, 1) are vectors."""
    if tensor.ndim < _CONV_NDIM - 1:
        return False
    return tensor.numel() > max(tensor.shape) or (tensor.ndim >= _CONV_NDIM and tensor.shape[0] > 1)


def _may_be_kernel(tensor: Tensor) -> bool:
    """(1, C, 1, 1): a vector spread over positions, or a 1x1 convolution to a single channel."""
    return tensor.ndim >= _CONV_NDIM and tensor.shape[0] == 1


def has_forward(module: nn.Module) -> bool:
    """Containers such as ModuleList (or a bare Module) define no forward of their own."""
    return type(module) is not nn.Module and not isinstance(
        module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
    )


def _is_torch_leaf(module: nn.Module) -> bool:
    """torch's own layers (GroupNorm has two vectors, too) are never blocks."""
    return type(module).__module__.startswith("torch.nn.modules") and not any(module.children())


def input_channels(module: nn.Module) -> tuple[int, ...]:
    """Channel counts worth probing, likeliest first: the vectors' length, then sums of two convolutions.

    With alpha = 1/2 a CRU takes twice its squeezes' input channels; any two convolutions may be the squeezes.
    """
    vectors: dict[int, int] = {}
    inputs: list[int] = []
    for tensor in [*module.parameters(), *module.buffers()]:
        if _is_kernel(tensor):
            inputs.append(int(tensor.shape[1]))
        elif 1 < tensor.numel() == max(tensor.shape):
            if _may_be_kernel(tensor):
                inputs.append(int(tensor.shape[1]))
            vectors[tensor.numel()] = vectors.get(tensor.numel(), 0) + 1
    by_vector = sorted((n for n, count in vectors.items() if count >= 2), key=lambda n: -vectors[n])
    sums = sorted({a + b for i, a in enumerate(inputs) for b in inputs[i + 1 :]}, reverse=True)
    grouped = _grouped_inputs(module)
    sums = sorted({a + b for i, a in enumerate(grouped) for b in grouped[i + 1 :]} | set(sums), reverse=True)
    return tuple(dict.fromkeys([*by_vector, *sums]))


FIXED_SHAPE = "fixed_input_shape"
"""Attribute of modules that stand for a part of a program: (N, C, H, W) with None for what is free."""


def fixed_shape(module: nn.Module) -> tuple[int | None, int | None, tuple[int, int] | None]:
    """Batch, channels and size that a program's part is bound to; None where any will do."""
    shape = getattr(module, FIXED_SHAPE, None)
    if not isinstance(shape, tuple) or len(shape) != _CONV_NDIM:
        return None, None, None
    batch, channels, height, width = shape
    return batch, channels, None if height is None or width is None else (height, width)


def _grouped_inputs(module: nn.Module) -> list[int]:
    """Input channels of the convolution layers as they declare them (weights hide the group count)."""
    return [int(child.in_channels) for child in module.modules() if isinstance(child, nn.Conv2d)]


def dissect(seen: Observation, tensors: Mapping[str, Tensor], parameters: set[str]) -> Anatomy | str:
    """Sort the live tensors into roles, or say which one has no place in an SCConv block."""
    if seen.odd_convolutions:
        return f"it runs {seen.odd_convolutions[0]}"
    if seen.convs and len(seen.convs) != CRU_CONVOLUTIONS:
        return f"it runs {len(seen.convs)} convolutions where a CRU has {CRU_CONVOLUTIONS}"
    in_convs = {name for c in seen.convs for name in (c.weight, c.bias) if name}
    rest = [name for name in tensors if name in seen.live - in_convs and tensors[name].numel() > 1]
    trained = [name for name in rest if name in parameters]
    if "a batch normalisation" in seen.foreign:
        return "a batch normalisation is part of it, which no SCConv form has"
    if not rest:
        return Anatomy(None, None, 0, tuple(seen.convs)) if seen.convs else "it uses no parameters"
    pair = trained if len(trained) in VECTOR_COUNTS else rest
    roles = _vector_roles(pair, seen)
    if roles is None or len({tensors[name].numel() for name in pair}) != 1:
        name = next((n for n in pair if tensors[n].ndim > 1), pair[0])
        shape = "x".join(str(d) for d in tensors[name].shape)
        return f"it uses {len(pair)} tensors beside convolutions (as '{name}', {shape}) where an SRU has two"
    return Anatomy(roles[0], roles[1], tensors[pair[0]].numel(), tuple(seen.convs), *roles[2:])


VECTOR_COUNTS = (2, 3, 4)
"""Gamma and beta; a gamma weight that is stored; a static mask that is stored, too."""


def _vector_roles(names: list[str], seen: Observation) -> tuple[str, ...] | None:
    """Gamma, beta, then gamma weight and mask where they are stored: the order in which an SRU uses them.

    Beta is the one that is only added; the others are multiplied, gamma first.
    """
    if len(names) == 2:
        return _gamma_first(names[0], names[1], seen)
    if len(names) not in VECTOR_COUNTS:
        return None
    in_order = sorted(names, key=seen.order.index)
    if seen.affine and set(seen.affine) <= set(names):
        others = [n for n in in_order if n not in seen.affine]
        return (*seen.affine, *others) if all(n in seen.scaled for n in others) else None
    added = [n for n in in_order if n not in seen.scaled]
    if len(added) != 1:
        return None
    first, *rest = (n for n in in_order if n not in added)
    return (first, *added, *rest)


def _gamma_first(first: str, second: str, seen: Observation) -> tuple[str, str]:
    """Gamma is multiplied and summed; beta is only added. A group norm's own arguments say it directly."""
    if seen.affine and set(seen.affine) == {first, second}:
        return seen.affine
    return (second, first) if second in seen.scaled and first not in seen.scaled else (first, second)


def attribute_numbers(module: nn.Module) -> tuple[list[int], list[float]]:
    """Integers and floats kept as plain attributes of the module and its parts: hints by value."""
    integers: list[int] = []
    floats: list[float] = []
    for child in module.modules():
        if type(child).__module__.startswith("torch.nn.modules") and not isinstance(child, nn.GroupNorm):
            continue
        for value in vars(child).values():
            if isinstance(value, bool):
                continue
            if isinstance(value, int):
                integers.append(value)
            elif isinstance(value, float):
                floats.append(value)
            elif isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
                floats.append(float(value))
    floats += [float(t.detach()) for t in [*module.parameters(), *module.buffers()] if t.numel() == 1]
    return integers, floats
