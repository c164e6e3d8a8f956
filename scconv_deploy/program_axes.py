"""What a program says of its inputs' axes, and the user's shapes -> the ranges of one export.

A program (ONNX, TorchScript, ``torch.export``) fixes some axes for good and leaves others free: what it fixes is
never opened, what it leaves free takes the user's numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import ShapeRange, dims
from scconv_deploy.errors import InputError

AXIS_NAMES = {0: "batch", 1: "channels", 2: "height", 3: "width"}

UNBOUNDED = 2**31 - 1
"""Maximum of an axis the user left open; recorded as such, never allocated."""


def shapes_of_examples(
    known: Sequence[TensorSpec], example: Sequence[torch.Tensor], ranges: Sequence[ShapeRange]
) -> list[ShapeRange]:
    """Example inputs of a program say no more than shapes; what the user gave as a range goes first."""
    if len(example) != len(known):
        raise InputError(f"the program takes {len(known)} inputs, {len(example)} example inputs were given")
    given = {r.name or known[0].name for r in ranges}
    shapes = [(s.name, tuple(t.shape)) for s, t in zip(known, example, strict=True)]
    return [ShapeRange(name, shape, shape, shape) for name, shape in shapes if name not in given]


def within_program(spec: TensorSpec, given: ShapeRange | None) -> TensorSpec:
    """The range of a program's input: what it fixes stays fixed, what is free takes the user's numbers.

    A free axis without a number of its own (optimum 0) needs one, but for the batch, which starts at 1.
    """
    lows, mids, highs = spec.minimum, spec.optimum, spec.maximum
    if given is not None and len(given.optimum) != len(spec.shape):
        raise InputError(
            f"input '{spec.name}' has {len(spec.shape)} axes in the program ({_axes(spec)}), "
            f"but the shape given has {len(given.optimum)} ({dims(given.optimum)})"
        )
    found: list[tuple[int, int, int]] = []
    for axis, (low, mid, high) in enumerate(zip(lows, mids, highs, strict=True)):
        wanted = (given.minimum[axis], given.optimum[axis], given.maximum[axis]) if given else None
        if wanted is None:
            if mid == 0 and axis > 0:
                raise InputError(
                    f"input '{spec.name}' of the program has free axes ({_axes(spec)}) and names no size for them; "
                    f"give one: --input-shape {spec.name}:1x3x224x224 (or --minShapes, --optShapes, --maxShapes)"
                )
            # A program that names a size of a free axis (a .pt2) names its range, too.
            wanted = (low, mid, high) if mid and axis > 0 else (max(mid, 1),) * 3
        if wanted[0] < low or wanted[2] > high:
            allowed = (
                str(low) if low == high else f"{low} to {high}" if high < UNBOUNDED else f"at least {low}"
            )
            raise InputError(
                f"axis {axis} of input '{spec.name}' is {allowed} in the program ({_axes(spec)}), "
                f"but {wanted[0] if wanted[0] < low else wanted[2]} was given"
            )
        found.append(wanted)
    lo, opt, hi = (tuple(axis[i] for axis in found) for i in range(3))
    shape = tuple(
        lo[axis] if lo[axis] == hi[axis] else AXIS_NAMES.get(axis, f"axis{axis}") for axis in range(len(lo))
    )
    return TensorSpec(spec.name, spec.dtype, shape, lo, opt, hi, spec.multiple_of)


def _axes(spec: TensorSpec) -> str:
    return "x".join(str(d) for d in spec.shape)
