"""Which heights and widths does the model accept? Settled inputs -> inputs restricted to what works, and why.

A stride-2 path that floors against a residual that ceils only meets for some sizes. The model is run on the
``meta`` device (shapes only, no arithmetic) over the corners of the range and the first steps from its
minimum, at multiples of 1, 2, 4, ... until one always works.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import dims
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import AXIS_NAMES, UNBOUNDED, copied, fixed_batch

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""Candidate divisors of a dynamic height or width; 64 covers six halvings."""

Sizes = Sequence[tuple[TensorSpec, tuple[int, ...]]]
"""One shape for every input."""


def find_multiples(
    module: nn.Module, specs: Sequence[TensorSpec]
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """Restrict dynamic heights and widths (axis 2 and up) to what the model accepts, and say so.

    Returns:
        The inputs with ``multiple_of`` set and ranges rounded inwards, and one note per restriction.

    Raises:
        InputError: the model accepts no size of the range.
    """
    free = [
        (s.name, axis) for s in specs for axis in range(2, len(s.shape)) if isinstance(s.shape[axis], str)
    ]
    if not free:
        return tuple(specs), []
    runner = _shape_runner(module, specs)
    for multiple in MULTIPLES:
        rounded = [_rounded(spec, multiple) for spec in specs]
        if any(spec is None for spec in rounded):
            break
        candidates = [spec for spec in rounded if spec is not None]
        if all(runner(shapes) for shapes in _sizes(candidates, multiple)):
            return tuple(candidates), _multiple_notes(specs, candidates, multiple)
    shown = ", ".join(f"{s.name} {dims(s.minimum)} to {dims(s.maximum)}" for s in specs)
    raise InputError(
        f"the model does not run over the whole range ({shown}), not even at multiples of up to "
        f"{MULTIPLES[-1]}; give static shapes with --input-shape, or a narrower range"
    )


def settle_batch(module: nn.Module, specs: Sequence[TensorSpec]) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """Fix a batch that was opened for the user if the model takes its optimum but not a batch of one."""
    if all(s.minimum == s.optimum or s.maximum[:1] != (UNBOUNDED,) for s in specs):
        return tuple(specs), []
    accepts = _shape_runner(module, specs)
    if accepts([(s, s.minimum) for s in specs]) or not accepts([(s, s.optimum) for s in specs]):
        return tuple(specs), []
    size = specs[0].optimum[0]
    return fixed_batch(specs), [f"the batch is fixed at {size}: the model does not take a batch of 1"]


def _shape_runner(module: nn.Module, specs: Sequence[TensorSpec]) -> Callable[[Sizes], bool]:
    """A predicate: does the model accept these shapes? Runs on the meta device where the model can."""
    real = copied(module).eval()
    try:
        probe = copy.deepcopy(real).to("meta")
    except Exception:  # noqa: BLE001 - user modules may refuse any device
        return _accepts(real, "cpu")
    runner = _accepts(probe, "meta")
    # A model that keeps tensors outside its buffers, or reads values, runs on no meta tensor of any size.
    return runner if runner([(s, s.optimum) for s in specs]) else _accepts(real, "cpu")


def _accepts(module: nn.Module, device: str) -> Callable[[Sizes], bool]:
    def accepts(sizes: Sizes) -> bool:
        arguments = [torch.zeros(shape, dtype=getattr(torch, s.dtype), device=device) for s, shape in sizes]
        try:
            with torch.no_grad():
                module(*arguments)
        except Exception:  # noqa: BLE001 - any refusal by the user's forward means "not this size"
            return False
        return True

    return accepts


def _rounded(spec: TensorSpec, multiple: int) -> TensorSpec | None:
    """The range rounded inwards to multiples, or None where nothing is left of it."""
    lo, mid, hi = list(spec.minimum), list(spec.optimum), list(spec.maximum)
    of: dict[int, int] = {}
    for axis in range(2, len(lo)):
        if not isinstance(spec.shape[axis], str):
            continue
        lo[axis] = -(-lo[axis] // multiple) * multiple
        hi[axis] = hi[axis] // multiple * multiple
        if lo[axis] > hi[axis]:
            return None
        mid[axis] = min(max(round(mid[axis] / multiple) * multiple, lo[axis]), hi[axis])
        if multiple > 1:
            of[axis] = multiple
    return replace(spec, minimum=tuple(lo), optimum=tuple(mid), maximum=tuple(hi), multiple_of=of)


def _sizes(specs: Sequence[TensorSpec], multiple: int) -> Iterator[Sizes]:
    """Batch 1 at every corner, and the first steps away from the minimum, height and width apart."""
    axes = sorted({axis for s in specs for axis in range(2, len(s.shape)) if isinstance(s.shape[axis], str)})
    steps: list[dict[int, int]] = [{}]
    steps += [{axis: k * multiple} for axis in axes for k in (1, 2, 3, 5)]
    steps += [dict.fromkeys(axes, k * multiple) for k in (1, 3)]
    for step in steps:
        yield [(s, _stepped(s, step)) for s in specs]
    yield [(s, (1, *s.maximum[1:])) for s in specs]


def _stepped(spec: TensorSpec, step: Mapping[int, int]) -> tuple[int, ...]:
    shape = list(spec.minimum)
    shape[0] = 1 if isinstance(spec.shape[0], str) else shape[0]
    for axis, extra in step.items():
        if axis < len(shape) and isinstance(spec.shape[axis], str):
            shape[axis] = min(shape[axis] + extra, spec.maximum[axis])
    return tuple(shape)


def _multiple_notes(before: Sequence[TensorSpec], after: Sequence[TensorSpec], multiple: int) -> list[str]:
    if multiple == 1:
        return []
    notes = []
    for old, new in zip(before, after, strict=True):
        axes = [AXIS_NAMES.get(a, f"axis {a}") for a in new.multiple_of]
        text = (
            f"input '{new.name}': {' and '.join(axes)} must be a multiple of {multiple} "
            "(found by probing the model)"
        )
        if (old.minimum, old.maximum) != (new.minimum, new.maximum):
            text += f"; the range became {dims(new.minimum)} to {dims(new.maximum)}"
        if old.optimum != new.optimum:
            text += f", the optimum {dims(new.optimum)}"
        notes.append(text)
    return notes
