"""Module + checkpoint + configuration -> the inputs' names, dtypes and ranges, settled once."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import ShapeRange, dims
from scconv_deploy.errors import InputError, nearest
from scconv_deploy.program_axes import AXIS_NAMES as AXIS_NAMES
from scconv_deploy.program_axes import UNBOUNDED as UNBOUNDED
from scconv_deploy.program_axes import shapes_of_examples, within_program


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
    program = {s.name: s for s in known if s.minimum}
    if program and example is not None:
        ranges = [*ranges, *shapes_of_examples(known, example, ranges)]
    elif example is not None:
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
    settled = [
        within_program(spec, by_name.get(spec.name))
        if spec.name in program
        else _with_range(spec, by_name.get(spec.name))
        for spec in specs
    ]
    settled = _own_symbols(settled)
    if not dynamic_batch:
        return tuple(settled)
    # Only inputs of the same leading size share the batch; another one (anchors, a table) keeps its own.
    batch = settled[0].optimum[:1]
    open_to = {n: s.shape[:1] for n, s in program.items() if s.shape and isinstance(s.shape[0], str)}
    first = next(iter(open_to.values()), None)
    return tuple(
        _open_batch(s, program.get(s.name))
        if s.optimum[:1] == batch and (not program or (s.name in open_to and open_to[s.name] == first))
        else s
        for s in settled
    )


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


def copied(module: nn.Module) -> nn.Module:
    """A private copy of the user's module.

    Raises:
        InputError: it cannot be copied, in words.
    """
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"the model cannot be copied, and the export never works on your own object: {error}; tensors made "
            "by a computation cannot be copied (with the old torch.nn.utils.weight_norm or spectral_norm call "
            "remove_weight_norm or remove_spectral_norm first, or use torch.nn.utils.parametrizations)"
        ) from error


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


def _open_batch(spec: TensorSpec, program: TensorSpec | None) -> TensorSpec:
    """Axis 0 from 1 to unbounded, or as the program bounds it, unless the user gave it a range."""
    if not spec.shape or isinstance(spec.shape[0], str):
        return spec
    return replace(
        spec,
        shape=(AXIS_NAMES[0], *spec.shape[1:]),
        minimum=(program.minimum[0] if program else 1, *spec.minimum[1:]),
        maximum=(program.maximum[0] if program else UNBOUNDED, *spec.maximum[1:]),
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


def fixed_batch(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The same inputs with axis 0 fixed at its optimum."""
    fixed = []
    for spec in specs:
        if spec.shape and isinstance(spec.shape[0], str):
            size = spec.optimum[0]
            spec = replace(
                spec,
                shape=(size, *spec.shape[1:]),
                minimum=(size, *spec.minimum[1:]),
                maximum=(size, *spec.maximum[1:]),
            )
        fixed.append(spec)
    return tuple(fixed)


def _own_symbols(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Inputs share an axis' symbol only where they share its range: ``height`` else becomes ``a_height``."""
    ranges: dict[str, set[tuple[int, int, int]]] = {}
    for spec in specs:
        for axis, symbol in enumerate(spec.shape):
            if isinstance(symbol, str):
                bounds = (spec.minimum[axis], spec.optimum[axis], spec.maximum[axis])
                ranges.setdefault(symbol, set()).add(bounds)
    return [
        replace(
            spec,
            shape=tuple(
                f"{spec.name}_{s}" if isinstance(s, str) and len(ranges[s]) > 1 else s for s in spec.shape
            ),
        )
        for spec in specs
    ]
