"""Convolutions: child modules where the weights are constant, else torch's functions.

``auto_pad`` and unequal pads on the two sides become an explicit zero padding before an unpadded
convolution, and a crop after an unpadded transposed one. Half types are convolved in float32 and rounded
once: that is what tensor cores do, and it does not depend on which half kernels the machine's oneDNN has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from scconv_deploy.interpret.node import Node, RefusedError, Run, half_type, operator, rounded_once
from scconv_deploy.interpret.operators.padding import Pads, fixed_pads, pads_for, zero_pad
from scconv_deploy.interpret.values import Call, Value, is_traced

CONVS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FUNCTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
BACKWARDS: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def _rank(node: Node, weight: Tensor | None) -> int:
    kernel = node.integers("kernel_shape")
    name = node.proto.input[1]
    rank = weight.ndim - 2 if weight is not None else len(kernel) if kernel else node.ranks.get(name, 0) - 2
    if rank not in CONVS:
        raise RefusedError(f"with {rank} spatial axes" if rank > 0 else "whose number of axes is not known")
    return rank


def _module(node: Node, kind: type[nn.Module], weight: Tensor, options: dict[str, Any]) -> nn.Module | None:
    """The child for constant weights; the tensors themselves are put in, so that shared ones stay shared."""
    bias = node.constant(2)
    if node.has(2) and bias is None:
        return None
    groups = options["groups"]
    sizes = (
        (weight.shape[1] * groups, weight.shape[0])
        if "output_padding" not in options
        else (
            weight.shape[0],
            weight.shape[1] * groups,
        )
    )
    made = kind(*sizes, tuple(weight.shape[2:]), bias=bias is not None, device="meta", **options)
    node.taken = frozenset({1, 2} if bias is not None else {1})
    return made


@operator("Conv")
def convolution(node: Node) -> Run:
    """Any rank from 1 to 3, groups, strides, dilations, all paddings."""
    weight = node.constant(1)
    rank = _rank(node, weight)
    stride, dilation = (tuple(node.integers(k) or [1] * rank) for k in ("strides", "dilations"))
    known: Pads | None = None
    if weight is not None:
        known = fixed_pads(node, list(weight.shape[2:]), stride, dilation)
    even = known is not None and known[:rank] == known[rank:]
    options: dict[str, Any] = {
        "stride": stride,
        "padding": tuple(known[:rank]) if known is not None and even else 0,
        "dilation": dilation,
        "groups": node.integer("group", 1),
    }
    node.module = _module(node, CONVS[rank], weight, options) if weight is not None else None
    has_module, function = node.module is not None, FUNCTIONS[rank]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        layer = cast(nn.Conv2d, call.module)
        if not even:
            kernel = (layer.weight if has_module else call.tensor(values[1])).shape[2:]
            x = zero_pad(x, known if known is not None else pads_for(node, x, kernel, stride, dilation))
        if has_module:
            return _with_layer(layer, x, lambda w, b: function(x.float(), w, b, **options))
        bias = call.optional(values[2]) if len(values) > 2 else None
        return function(x, call.tensor(values[1]), bias, **options)

    return run if has_module else rounded_once(run)


def _with_layer(layer: nn.Conv2d, x: Tensor, wide: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
    if half_type([x]) is None or is_traced(x):
        return cast(Tensor, layer(x))
    bias = None if layer.bias is None else layer.bias.float()
    return wide(layer.weight.float(), bias).to(x.dtype)


@operator("ConvTranspose")
def transposed_convolution(node: Node) -> Run:
    """Unequal pads are cropped from the unpadded result; ``output_shape`` is refused."""
    if node.integers("output_shape") or node.text("auto_pad", "NOTSET").startswith("SAME"):
        raise RefusedError("with output_shape or auto_pad SAME")
    weight = node.constant(1)
    rank = _rank(node, weight)
    pads = (
        (node.integers("pads") or [0] * 2 * rank)
        if node.text("auto_pad", "NOTSET") == "NOTSET"
        else [0] * 2 * rank
    )
    even = pads[:rank] == pads[rank:]
    options: dict[str, Any] = {
        "stride": tuple(node.integers("strides") or [1] * rank),
        "padding": tuple(pads[:rank]) if even else 0,
        "output_padding": tuple(node.integers("output_padding") or [0] * rank),
        "groups": node.integer("group", 1),
        "dilation": tuple(node.integers("dilations") or [1] * rank),
    }
    node.module = _module(node, TRANSPOSED[rank], weight, options) if weight is not None else None
    has_module, function = node.module is not None, BACKWARDS[rank]

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        if has_module:
            layer = cast(nn.Conv2d, call.module)
            made = _with_layer(layer, x, lambda w, b: function(x.float(), w, b, **options))
        else:
            bias = call.optional(values[2]) if len(values) > 2 else None
            made = function(x, call.tensor(values[1]), bias, **options)
        return made if even else zero_pad(made, [-p for p in pads])

    return run if has_module else rounded_once(run)
