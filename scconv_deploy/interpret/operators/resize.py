"""Resize and Upsample: torch's interpolate where it states the same coordinates, else ONNX's own formulas.

Where torch has no equal (nearest with ``round_prefer_floor``, linear with ``asymmetric`` coordinates, cubic
with another coefficient), each axis is multiplied by the matrix of its weights (:mod:`.sampling`), which
needs sizes that are known numbers. Half types are interpolated in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from scconv_deploy.errors import InputError
from scconv_deploy.interpret.node import Node, RefusedError, Run, operator, rounded_once
from scconv_deploy.interpret.operators.sampling import COORDINATES, MODES, Sampling, resample
from scconv_deploy.interpret.values import Call, Value, numbers

TORCH_MODES: dict[str, dict[int, str]] = {
    "nearest": {3: "nearest", 4: "nearest", 5: "nearest"},
    "nearest-exact": {3: "nearest-exact", 4: "nearest-exact", 5: "nearest-exact"},
    "linear": {3: "linear", 4: "bilinear", 5: "trilinear"},
    "cubic": {4: "bicubic"},
}


@dataclass(frozen=True, slots=True)
class _Target:
    """What each axis becomes: sizes, or scales where ``sizes`` is None."""

    sizes: list[Any] | None
    scales: list[float] | None


@operator("Resize", "Upsample")
def resize(node: Node) -> Run:
    """By scales or to sizes, over any axes; antialiasing, cropping and aspect policies are refused."""
    sampling = _sampling(node)
    scales_at = 1 if node.proto.op_type == "Upsample" or node.opset < 11 else 2
    fixed = node.attributes.get("scales")
    axes = node.integers("axes")

    def run(call: Call, values: Sequence[Value]) -> Tensor:
        x = call.tensor(values[0])
        sizes = numbers(values[3]) if len(values) > 3 and values[3] is not None else None
        if sizes:
            full: list[Any] = list(x.shape)
            target = _Target(_set(full, sizes, axes), None)
        else:
            scales = list(fixed) if fixed is not None else numbers(values[scales_at])
            target = _Target(None, _set([1.0] * x.ndim, scales, axes))
        return _resized(x, target, sampling)

    return rounded_once(run)


def _set(full: list[Any], given: Sequence[Any], axes: list[int] | None) -> list[Any]:
    for axis, value in zip(axes if axes is not None else range(len(full)), given, strict=True):
        full[axis % len(full)] = value
    return full


def _sampling(node: Node) -> Sampling:
    old = node.proto.op_type == "Upsample" or node.opset < 11
    made = Sampling(
        node.text("mode", "nearest"),
        "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel"),
        "floor" if old else node.text("nearest_mode", "round_prefer_floor"),
        node.number("cubic_coeff_a", -0.75),
        bool(node.integer("exclude_outside", 0)),
    )
    if made.mode not in MODES or made.where not in COORDINATES:
        raise RefusedError(f"with mode {made.mode}, coordinates {made.where}")
    if node.integer("antialias", 0) or node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise RefusedError("with antialias or keep_aspect_ratio_policy")
    return made


def _torch_mode(sampling: Sampling) -> tuple[str, bool | None] | None:
    """torch's mode family and align_corners, or None where torch has no equal."""
    if sampling.mode == "nearest":
        if (sampling.where, sampling.rounding) == ("asymmetric", "floor"):
            return "nearest", None
        exact = (sampling.where, sampling.rounding) == ("half_pixel", "round_prefer_ceil")
        return ("nearest-exact", None) if exact else None
    if sampling.mode == "cubic" and (sampling.coefficient != -0.75 or sampling.exclude_outside):
        return None
    if sampling.where == "align_corners":
        return sampling.mode, True
    return (sampling.mode, False) if sampling.where in ("half_pixel", "pytorch_half_pixel") else None


def _scaled(size: Any, scale: float) -> Any:
    """The size that the standard gives: rounded down, the product in float32 as scales are."""
    if scale == 1:
        return size
    return int(np.float32(size) * np.float32(scale)) if isinstance(size, int) else int(size * scale)


def _resized(x: Tensor, target: _Target, sampling: Sampling) -> Tensor:
    wanted = target.sizes or target.scales or []
    untouched = [x.shape[i] == wanted[i] for i in (0, 1)] if target.sizes else [w == 1 for w in wanted[:2]]
    torch_mode = _torch_mode(sampling)
    fits = torch_mode is not None and x.ndim in TORCH_MODES[torch_mode[0]] and all(untouched)
    sizes = target.sizes or [_scaled(n, s) for n, s in zip(x.shape, target.scales or [], strict=True)]
    if target.scales is not None:
        # torch computes the size in float64, where 10 times 0.7 as stored is less than 7.
        fits = fits and all(int(n * s) == m for n, s, m in zip(x.shape, target.scales, sizes, strict=True))
    if sampling.where == "align_corners" and target.scales is not None:
        # The standard's reference and ONNX Runtime differ here: the one takes the unrounded size.
        for n, s in zip(x.shape, target.scales, strict=True):
            if abs(n * s - _scaled(n, s)) > 1e-4:
                raise InputError(f"scale {s} with align_corners makes no whole size of {n}")
    if (
        fits
        and torch_mode is not None
        and not (
            sampling.where == "pytorch_half_pixel" and any(isinstance(n, int) and n == 1 for n in sizes[2:])
        )
    ):
        return F.interpolate(
            x,
            size=target.sizes[2:] if target.sizes else None,
            scale_factor=target.scales[2:] if target.scales else None,
            mode=TORCH_MODES[torch_mode[0]][x.ndim],
            align_corners=torch_mode[1],
        )
    for axis, size in enumerate(sizes):
        scale = target.scales[axis] if target.scales else None
        x = resample(x, axis, int(size), scale, sampling)
    return x
