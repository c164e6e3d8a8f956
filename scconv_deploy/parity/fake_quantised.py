"""The user's own PyTorch module with every layer's input and weights rounded to codes: what int8 itself costs.

Independent of the exported graph: hooks on ``nn.Conv*d`` and ``nn.Linear`` round what those layers read to 8 bits
over the range of that very call, and their weights to symmetric codes per output channel. Whoever computes this
network in int8 (or fp8) loses about this much; an artifact that loses as much is not wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import LoweredModel, TensorSpec, TracedGraph
from scconv_deploy.config import QUANTISED, Precision
from scconv_deploy.parity.cases import Case
from scconv_deploy.parity.endtoend import EndToEnd, task_of
from scconv_deploy.parity.reference import Reference
from scconv_deploy.scconv.typed import TORCH_TYPES
from scconv_deploy.verdicts import TaskMetric

HALVES = (Precision.FP16, Precision.BF16)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def simulates(precision: Precision, rest: Precision) -> bool:
    """Whether a graph must be interpreted in torch to compute as it states: 16-bit types, which ONNX Runtime
    widens on CPU, and fp8, which its optimiser computes wrongly there (1.32)."""
    return rest in HALVES or precision is Precision.FP8


def same_precision(
    lowered: LoweredModel, graph: TracedGraph, names: Sequence[str], precision: Precision
) -> Reference | None:
    """The user's own module in the artifact's precision; None in fp32, where it is the reference itself."""
    if precision in QUANTISED:
        return fake_quantised(lowered.reference, graph.inputs, names, precision)
    if precision not in HALVES:
        return None
    return Reference(lowered.reference, graph.inputs, names, TORCH_TYPES[precision])


def task_itself(found: EndToEnd, same: Reference | None, cases: Sequence[Case]) -> TaskMetric | None:
    """Top-1 agreement of ``same`` with the reference on the real samples; None where there are no classes."""
    real = [case for case in cases if case.real]
    made = [None if same is None else same.try_run(case.inputs) for case in real]
    if not made or any(m is None for m in made):
        return None
    return task_of(EndToEnd(wanted=found.wanted, made=[m for m in made if m is not None]), None)


def fake_quantised(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[str], precision: Precision
) -> Reference:
    """A :class:`Reference` of ``module`` (copied) whose products work on codes.

    Args:
        module: the user's module, float32.
        inputs: names in the order of forward's arguments.
        outputs: names of the flattened outputs.
        precision: int8 or fp8.
    """
    made = Reference(module, inputs, outputs)
    for layer in made.module.modules():
        if isinstance(layer, LAYERS):
            with torch.no_grad():
                layer.weight.copy_(coded_weight(layer.weight, precision))
            layer.register_forward_pre_hook(_hook(precision))
    return made


def _hook(precision: Precision) -> Any:
    def hook(_layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (coded(given[0], precision), *given[1:])

    return hook


def coded(x: Tensor, precision: Precision) -> Tensor:
    """``x`` rounded to codes over its own range: 256 steps that include 0, or e4m3fn."""
    if precision is Precision.FP8:
        return _float8(x, x.abs().max())
    low, high = x.min().clamp(max=0.0), x.max().clamp(min=0.0)
    scale = ((high - low) / 255.0).clamp(min=torch.finfo(x.dtype).tiny)
    zero = torch.round(-low / scale)
    return (torch.clamp(torch.round(x / scale) + zero, 0, 255) - zero) * scale


def coded_weight(weight: Tensor, precision: Precision) -> Tensor:
    """Symmetric codes per index of axis 0."""
    top = weight.abs().flatten(1).amax(dim=1).reshape([-1] + [1] * (weight.ndim - 1))
    if precision is Precision.FP8:
        return _float8(weight, top)
    scale = (top / 127.0).clamp(min=torch.finfo(weight.dtype).tiny)
    return torch.round(weight / scale) * scale


def _float8(x: Tensor, top: Tensor) -> Tensor:
    scale = (top / 448.0).clamp(min=torch.finfo(x.dtype).tiny)
    return (x / scale).clamp(-448.0, 448.0).to(torch.float8_e4m3fn).to(x.dtype) * scale
