"""Module + checkpoint + configuration -> the inputs' names, dtypes and ranges, settled once.

Also finds out, by running the model on the ``meta`` device (shapes only, no arithmetic), whether a dynamic
height or width must be a multiple of something: a stride-2 path that floors against a residual that ceils
only meets for some sizes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import ShapeRange, dims
from scconv_deploy.errors import InputError, nearest

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""Candidate divisors of a dynamic height or width; 64 covers six halvings."""

Sizes = Sequence[tuple[TensorSpec, tuple[int, ...]]]
"""One shape for every input."""

AXIS_NAMES = {0: "batch", 1: "channels", 2: "height", 3: "width"}

UNBOUNDED = 2**31 - 1
"""Maximum of an axis the user left open; recorded as such, never allocated."""


def settle(
    module: nn.Module,
    known: Sequence[TensorSpec],
    ranges: Sequence[ShapeRange],
    example: Sequence[torch.Tensor] | None,
    dynamic_batch: bool,
) -> tuple[TensorSpec, ...]:
    """One TensorSpec per argument of ``forward``, with minimum, optimum and maximum.

    Precedence: the user's shapes, then example inputs, then what the checkpoint says. ``dynamic_batch`` opens
    axis 0 (1 to unbounded) where the user gave no range for it.

    Raises:
        InputError: nothing says the shapes, or names or ranks do not fit.
    """
    names = forward_names(module)
    specs = list(known)
    if example is not None:
        specs = [
            TensorSpec(name, _dtype_name(t), tuple(t.shape))
            for name, t in zip(_named(names, len(example)), example, strict=True)
        ]
    if not specs:
        if not ranges:
            raise InputError(
                "the model's input shape is unknown: nothing in the file says it; give it, "
                "for example --input-shape 1x3x224x224"
            )
        specs = _from_ranges(ranges, names, _required_names(module))
    by_name = _ranges_by_name(specs, ranges)
    settled = [_with_range(spec, by_name.get(spec.name)) for spec in specs]
    if not dynamic_batch:
        return tuple(settled)
    # Only inputs of the same leading size share the batch; another one (anchors, a table) keeps its own.
    batch = settled[0].optimum[:1]
    return tuple(_open_batch(s) if s.optimum[:1] == batch else s for s in settled)


def example_tensors(
    specs: Sequence[TensorSpec], seed: int, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[torch.Tensor, ...]:
    """Seeded standard-normal inputs (integers: 0 or 1) of the optimum shapes or of ``shapes``."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for spec in specs:
        shape = (shapes or {}).get(spec.name, spec.optimum)
        dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            made.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            made.append(torch.randint(0, 2, shape, generator=generator).to(dtype))
    return tuple(made)


def run_once(module: nn.Module, example: Sequence[torch.Tensor], specs: Sequence[TensorSpec]) -> object:
    """The module's own result on ``example``, without gradients.

    Raises:
        InputError: the module refuses these inputs; the message holds its own first line.
    """
    try:
        with torch.no_grad():
            return module(*example)
    except Exception as error:
        given = ", ".join(f"{s.name} {tuple(t.shape)}" for s, t in zip(specs, example, strict=True))
        raise InputError(
            f"the model does not run on inputs of this shape ({given}): {reason(error)}; "
            "give the shape it takes with --input-shape"
        ) from error


def reason(error: BaseException) -> str:
    """The first telling line of a torch error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:400]}" if lines else type(error).__name__


def small_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The smallest shape of an input's range, for runs that only look at structure."""
    return spec.minimum


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


def forward_names(module: nn.Module) -> list[str]:
    """Names of forward's positional parameters, without self, *args and **kwargs."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]


def _required_names(module: nn.Module) -> list[str]:
    """The parameters of forward that have no default."""
    try:
        parameters = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return []
    return [n for n in forward_names(module) if parameters[n].default is inspect.Parameter.empty]


def _dtype_name(example: torch.Tensor) -> str:
    """NumPy dtype name of an input; every floating type is float32, as the graph's weights are."""
    return "float32" if example.is_floating_point() else str(example.dtype).removeprefix("torch.")


def _named(names: Sequence[str], count: int) -> list[str]:
    return [names[i] if i < len(names) else f"input_{i}" for i in range(count)]


def _from_ranges(
    ranges: Sequence[ShapeRange], names: Sequence[str], required: Sequence[str]
) -> list[TensorSpec]:
    """Shapes alone -> float32 inputs in the order of forward's arguments, whatever order they came in."""
    fallback = _named(names, len(ranges))
    found = {r.name or name: r.optimum for r, name in zip(ranges, fallback, strict=True)}
    for name in found:
        if names and name not in names:
            raise InputError(
                f"the model has no input '{name}' (it has {', '.join(names)}){nearest(name, names)}"
            )
    order = [name for name in names if name in found] if names else list(found)
    # Arguments are passed by position: the last one given needs all before it.
    last = max((names.index(name) for name in order), default=-1) if names else -1
    for position, name in enumerate(names):
        if name not in found and (name in required or position < last):
            raise InputError(
                f"the shape of input '{name}' is missing; give one for each of {', '.join(names)}, "
                f"for example --input-shape {name}:1x3x224x224"
            )
    return [TensorSpec(name, "float32", found[name]) for name in order]


def _ranges_by_name(specs: Sequence[TensorSpec], ranges: Sequence[ShapeRange]) -> dict[str, ShapeRange]:
    if len(ranges) == 1 and ranges[0].name is None:
        if len(specs) != 1:
            listed = ", ".join(s.name for s in specs)
            raise InputError(f"the model has several inputs ({listed}); write --input-shape name:1x3x224x224")
        return {specs[0].name: ranges[0]}
    names = [s.name for s in specs]
    for r in ranges:
        if r.name is not None and r.name not in names:
            raise InputError(
                f"the model has no input '{r.name}' (it has {', '.join(names)}){nearest(r.name, names)}"
            )
    return {r.name: r for r in ranges if r.name is not None}


def _with_range(spec: TensorSpec, given: ShapeRange | None) -> TensorSpec:
    if given is None:
        concrete = tuple(d if isinstance(d, int) else 1 for d in spec.shape)
        if any(isinstance(d, str) for d in spec.shape[1:]):
            raise InputError(f"input '{spec.name}' has free axes {spec.shape}; give --input-shape")
        given = ShapeRange(spec.name, concrete, concrete, concrete)
    elif len(given.optimum) != len(spec.shape):
        raise InputError(
            f"input '{spec.name}' has {len(spec.shape)} axes in the model file "
            f"({dims([d if isinstance(d, int) else 1 for d in spec.shape])}), "
            f"but the shape given has {len(given.optimum)} ({dims(given.optimum)})"
        )
    else:
        _check_fixed_axes(spec, given)
    lo, hi = given.minimum, given.maximum
    shape: list[int | str] = [
        lo[axis] if lo[axis] == hi[axis] else AXIS_NAMES.get(axis, f"axis{axis}") for axis in range(len(lo))
    ]
    return TensorSpec(spec.name, spec.dtype, tuple(shape), lo, given.optimum, hi)


def _open_batch(spec: TensorSpec) -> TensorSpec:
    """Axis 0 from 1 to unbounded, unless the user gave it a range (or there is no axis)."""
    if not spec.shape or isinstance(spec.shape[0], str):
        return spec
    return replace(
        spec,
        shape=(AXIS_NAMES[0], *spec.shape[1:]),
        minimum=(1, *spec.minimum[1:]),
        maximum=(UNBOUNDED, *spec.maximum[1:]),
    )


def _check_fixed_axes(spec: TensorSpec, given: ShapeRange) -> None:
    """The channel axis of an image is fixed by the weights: a mismatch is better said now than by a conv."""
    if len(spec.shape) < 2 or not isinstance(spec.shape[1], int):
        return
    if (given.minimum[1], given.maximum[1]) != (spec.shape[1], spec.shape[1]):
        raise InputError(
            f"input '{spec.name}' has {spec.shape[1]} channels in the model file, "
            f"but the shape given has {given.optimum[1]} ({dims(given.optimum)})"
        )


def _shape_runner(module: nn.Module, specs: Sequence[TensorSpec]) -> Callable[[Sizes], bool]:
    """A predicate: does the model accept these shapes? Runs on the meta device where the model can."""
    real = copy.deepcopy(module).eval()
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
