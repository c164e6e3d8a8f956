"""A module tree of an unflattened program -> the same tree with torch's own layers back in place.

A submodule whose whole graph is one convolution (with its own padding step) or batch normalisation of its only
input is that layer; as a layer, a BatchNorm is folded before half-precision typing like in any other model. The layer
keeps the very parameters, so values and names stay. What does not fit exactly is left as a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import fx, nn
from torch.export.unflatten import InterpreterModule

aten = torch.ops.aten


def restore_layers(module: nn.Module) -> int:
    """Replace submodules in place; the number of them. A module shared between places stays shared."""
    made: dict[int, nn.Module] = {}
    for path, child in list(module.named_modules(remove_duplicate=False)):
        if not path or not isinstance(child, InterpreterModule):
            continue
        layer = made.get(id(child)) or _layer(child)
        if layer is not None:
            made[id(child)] = layer
            parent, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent), name, layer.eval())
    return len(made)


def _layer(module: InterpreterModule) -> nn.Module | None:
    nodes = list(module.graph.nodes)
    calls = [n for n in nodes if n.op == "call_function"]
    inputs = [n for n in nodes if n.op == "placeholder"]
    results = [n for n in nodes if n.op == "output"]
    if (
        len(calls) not in (1, 2)
        or len(inputs) != 1
        or any(n.op in ("call_module", "call_method") for n in nodes)
    ):
        return None
    call, border = calls[-1], None
    if len(calls) == 2:  # a convolution that does not pad with zeros pads in a step of its own
        border = _border(calls[0], inputs[0])
        if border is None or call.target is not aten.conv2d.default:
            return None
    if (
        results[0].args[0] is not call
        or not call.args
        or call.args[0] is not [inputs[0], *calls][len(calls) - 1]
    ):
        return None
    if call.kwargs:
        return None
    tensors = {n: _fetched(module, n) for n in nodes if n.op == "get_attr"}
    given = [tensors.get(a, a) if isinstance(a, fx.Node) else a for a in call.args[1:]]
    if any(isinstance(a, fx.Node) for a in given):
        return None
    if call.target is aten.conv2d.default:
        return _convolution(given, border)
    if call.target is aten.batch_norm.default:
        return _batch_norm(given)
    return None


def _border(node: fx.Node, given: fx.Node) -> tuple[str, tuple[int, int]] | None:
    """Padding mode and (height, width) of a symmetric pad of ``given``."""
    if not node.args or node.args[0] is not given or node.kwargs:
        return None
    modes: dict[object, str] = {
        aten.reflection_pad2d.default: "reflect",
        aten.replication_pad2d.default: "replicate",
    }
    mode = modes.get(node.target) or (
        node.args[2] if node.target is aten.pad.default and len(node.args) == 3 else None
    )
    sizes = node.args[1]
    if (
        mode not in ("reflect", "replicate", "circular")
        or not isinstance(sizes, list | tuple)
        or len(sizes) != 4
    ):
        return None
    if not all(isinstance(n, int) for n in sizes) or sizes[0] != sizes[1] or sizes[2] != sizes[3]:
        return None
    return cast(str, mode), (cast(int, sizes[2]), cast(int, sizes[0]))


def _fetched(module: nn.Module, node: fx.Node) -> torch.Tensor | None:
    *path, name = cast(str, node.target).split(".")
    return getattr(module.get_submodule(".".join(path)), name, None)


def _convolution(given: Sequence[Any], border: tuple[str, tuple[int, int]] | None) -> nn.Module | None:
    defaults: list[Any] = [None, None, [1, 1], [0, 0], [1, 1], 1]
    weight, bias, stride, padding, dilation, groups = [*given, *defaults[len(given) :]]
    if not isinstance(weight, nn.Parameter) or not (bias is None or isinstance(bias, nn.Parameter)):
        return None
    if any(len(p) != 2 for p in (stride, padding, dilation)) or (border and any(padding)):
        return None
    mode, padding = border or ("zeros", padding)
    made = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        groups,
        bias is not None,
        cast(Any, mode),
        device="meta",
    )
    made.weight = weight
    if bias is not None:
        made.bias = bias
    return made


def _batch_norm(given: Sequence[Any]) -> nn.Module | None:
    if len(given) != 8:
        return None
    weight, bias, mean, var, training, momentum, eps, _ = given
    if training or not all(isinstance(t, torch.Tensor) for t in (mean, var)):
        return None
    affine = isinstance(weight, nn.Parameter) and isinstance(bias, nn.Parameter)
    if not affine and not (weight is None and bias is None):
        return None
    made = nn.BatchNorm2d(mean.shape[0], eps, momentum, affine=affine, device="meta")
    if affine:
        made.weight, made.bias = weight, bias
    made.running_mean, made.running_var = mean, var
    made.num_batches_tracked = torch.zeros((), dtype=torch.long)
    return made
