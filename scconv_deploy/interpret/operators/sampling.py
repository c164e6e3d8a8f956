"""ONNX's coordinate formulas for Resize -> one axis of a tensor, resampled.

For output place i, ``x(i)`` is the place in the input (table :data:`COORDINATES`); nearest takes one element
there, linear and cubic the weighted sum of 2 or 4 (Keys, 1981, with the node's coefficient). Source: the
ONNX operator specification, Resize-19. Computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MODES = ("nearest", "linear", "cubic")


@dataclass(frozen=True, slots=True)
class Sampling:
    """The attributes of a Resize node that say where and how it samples."""

    mode: str
    where: str
    rounding: str
    coefficient: float
    exclude_outside: bool


@dataclass(frozen=True, slots=True)
class _Axis:
    """Input size, output size, and input steps per output step."""

    size: int
    out: int
    ratio: float


def _half_pixel(i: Tensor, axis: _Axis) -> Tensor:
    return (i + 0.5) * axis.ratio - 0.5


def _symmetric(i: Tensor, axis: _Axis) -> Tensor:
    return axis.size / 2 * (1 - axis.out * axis.ratio / axis.size) + _half_pixel(i, axis)


def _align_corners(i: Tensor, axis: _Axis) -> Tensor:
    return i * (axis.size - 1) / (axis.out - 1) if axis.out > 1 else i * 0.0


COORDINATES: dict[str, Callable[[Tensor, _Axis], Tensor]] = {
    "asymmetric": lambda i, axis: i * axis.ratio,
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": lambda i, axis: _half_pixel(i, axis) if axis.out > 1 else i * 0.0,
    "align_corners": _align_corners,
    "half_pixel_symmetric": _symmetric,
}
"""Name -> x(i)."""

ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


def resample(x: Tensor, axis: int, out: int, scale: float | None, sampling: Sampling) -> Tensor:
    """One axis of x resampled to ``out`` elements; by ``scale`` where given, else by the ratio of sizes."""
    size = int(x.shape[axis])
    if out == size and scale in (None, 1):
        return x
    ratio = 1 / scale if scale is not None else size / out
    places = COORDINATES[sampling.where](torch.arange(out, dtype=torch.float64), _Axis(size, out, ratio))
    if sampling.mode == "nearest":
        index = ROUNDINGS[sampling.rounding](places).long().clamp(0, size - 1)
        return x.index_select(axis, index.to(x.device))
    weights = _matrix(places, size, sampling).to(x)
    return torch.movedim(torch.movedim(x, axis, -1) @ weights.t(), -1, axis)


def _matrix(places: Tensor, size: int, sampling: Sampling) -> Tensor:
    """(out, size): row i holds the weights of the input's elements in output i."""
    first = torch.floor(places)
    taps = (0, 1) if sampling.mode == "linear" else (-1, 0, 1, 2)
    matrix = torch.zeros(len(places), size, dtype=torch.float64)
    for tap in taps:
        at = first + tap
        distance = (places - at).abs()
        weight = 1 - distance if sampling.mode == "linear" else _keys(distance, sampling.coefficient)
        if sampling.exclude_outside:
            weight = torch.where((at < 0) | (at >= size), torch.zeros_like(weight), weight)
        # What lies outside repeats the edge.
        matrix.scatter_add_(1, at.clamp(0, size - 1).long().unsqueeze(1), weight.unsqueeze(1))
    return matrix / matrix.sum(1, keepdim=True) if sampling.exclude_outside else matrix


def _keys(d: Tensor, a: float) -> Tensor:
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
