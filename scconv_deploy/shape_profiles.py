"""``--profile`` texts -> optimisation profiles; profiles -> the range to trace, and inputs that carry them.

An engine may hold several profiles, each fast in its own range (TensorRT; trtexec's ``--profile=0 ..``). A
request must fit one of them as a whole: fitting the smallest of one and the largest of another is not enough.
The graph is traced over the envelope of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scconv_deploy.artifacts import ShapeBounds, TensorSpec
from scconv_deploy.config import Profile, ShapeRange, dims, parse_dims
from scconv_deploy.errors import InputError, nearest

LARGEST = 16
"""Profiles of one engine; each costs a copy of the kernels' schedules."""
FORM = '--profile "x:1x3x224x224/4x3x224x224/8x3x224x224" (min/opt/max)'


def parse_profiles(texts: Sequence[str]) -> tuple[Profile, ...]:
    """``["x:1x3x8x8/2x3x8x8/4x3x8x8,y:1x2"]`` -> one profile of two inputs; a single shape is its own range.

    Raises:
        InputError: no shapes, two of them (which is the optimum?), or an input given twice in one profile.
    """
    made = []
    for number, text in enumerate(texts):
        ranges: list[ShapeRange] = []
        for part in text.split(","):
            name, _, shapes = part.strip().rpartition(":")
            pieces = shapes.split("/")
            if len(pieces) not in (1, 3):
                raise InputError(f"--profile '{part.strip()}' has {len(pieces)} shapes; write {FORM}")
            low, best, high = (parse_dims(p.strip()) for p in (pieces * 3 if len(pieces) == 1 else pieces))
            if any(r.name == (name or None) for r in ranges):
                raise InputError(
                    f"profile {number} gives input {name or '(unnamed)'} twice; a second range for it is "
                    "a second --profile"
                )
            ranges.append(ShapeRange(name or None, low, best, high))
        made.append(tuple(ranges))
    return tuple(made)


def combine(
    shapes: Sequence[ShapeRange], profiles: Sequence[Profile]
) -> tuple[tuple[ShapeRange, ...], tuple[Profile, ...]]:
    """Ranges of single inputs and further profiles -> the envelope to trace, and all profiles in order.

    A range given with ``--minShapes`` and its like is profile 0, those of ``--profile`` follow. Inputs that no
    profile names keep their one shape.

    Raises:
        InputError: profiles that name different inputs, differ in rank or are the same twice, too many of
            them, or a fixed shape beside a profile of the same input.
    """
    if not profiles:
        return tuple(shapes), ()
    named = {r.name for r in profiles[0]}
    given = tuple(r for r in shapes if r.name in named)
    for r in given:
        if not r.dynamic_axes:
            raise InputError(
                f"input {_called(r.name)} is fixed to {dims(r.optimum)} by --input-shape and has a range in "
                "--profile; give one of them"
            )
    every = (*((given,) if given else ()), *profiles)
    if len(every) > LARGEST:
        raise InputError(f"{len(every)} profiles are more than the {LARGEST} that an engine is built with")
    _must_agree(every)
    envelope = tuple(_envelope([_of(p, r.name) for p in every]) for r in every[0])
    return (*envelope, *(r for r in shapes if r.name not in named)), every


def with_profiles(
    inputs: Sequence[TensorSpec], profiles: Sequence[Profile]
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """Settled inputs that carry every profile, and a note where two profiles overlap.

    Heights and widths are rounded inwards to the multiples that the model takes, as the envelope was.

    Raises:
        InputError: a profile names no input of the model, holds no size that the model takes, lies outside
            what it takes, or gives one axis that inputs share two sizes.
    """
    if not profiles:
        return tuple(inputs), []
    names = [s.name for s in inputs]
    for r in profiles[0]:
        if r.name is not None and r.name not in names:
            raise InputError(
                f"the model has no input '{r.name}' (it has {', '.join(names)}){nearest(r.name, names)}"
            )
    made = []
    for spec in inputs:
        bounds = tuple(_bounds(spec, _of(p, spec.name), number) for number, p in enumerate(profiles))
        made.append(replace(spec, optimum=bounds[0].optimum, profiles=bounds))
    _must_share(made)
    return tuple(made), _overlaps(made)


def _must_agree(profiles: Sequence[Profile]) -> None:
    first = {r.name: r for r in profiles[0]}
    for number, profile in enumerate(profiles[1:], start=1):
        names = {r.name for r in profile}
        for name in first.keys() ^ names:
            lacking, other = (number, 0) if name in first else (0, number)
            raise InputError(
                f"profile {lacking} has no range for input {_called(name)}, and profile {other} has one; "
                "every profile names the same inputs"
            )
        for r in profile:
            if len(r.optimum) != len(first[r.name].optimum):
                raise InputError(
                    f"input {_called(r.name)} has {len(first[r.name].optimum)} axes in profile 0 and "
                    f"{len(r.optimum)} in profile {number}"
                )
        for earlier in range(number):
            if set(profiles[earlier]) == set(profile):
                raise InputError(
                    f"profiles {earlier} and {number} are the same ({_shown(profile)}); leave one out"
                )


def _envelope(ranges: Sequence[ShapeRange]) -> ShapeRange:
    axes = range(len(ranges[0].optimum))
    return ShapeRange(
        ranges[0].name,
        tuple(min(r.minimum[a] for r in ranges) for a in axes),
        ranges[0].optimum,
        tuple(max(r.maximum[a] for r in ranges) for a in axes),
    )


def _of(profile: Profile, name: str | None) -> ShapeRange:
    """The range of one input; a fixed input that no profile names has none, and its own bounds serve."""
    for r in profile:
        if r.name == name or (r.name is None and len(profile) == 1):
            return r
    return ShapeRange(name, (), (), ())


def _bounds(spec: TensorSpec, given: ShapeRange, number: int) -> ShapeBounds:
    if not given.optimum:
        return ShapeBounds(spec.minimum, spec.optimum, spec.maximum)
    low, best, high = list(given.minimum), list(given.optimum), list(given.maximum)
    for axis, multiple in spec.multiple_of.items():
        low[axis], high[axis] = -(-low[axis] // multiple) * multiple, high[axis] // multiple * multiple
        if low[axis] > high[axis]:
            raise InputError(
                f"profile {number} gives axis {axis} of input '{spec.name}' {given.minimum[axis]} to "
                f"{given.maximum[axis]}, where the model takes only multiples of {multiple}"
            )
        best[axis] = max(low[axis], best[axis] // multiple * multiple)
    for axis in range(len(best)):
        if not spec.minimum[axis] <= low[axis] <= high[axis] <= spec.maximum[axis]:
            raise InputError(
                f"profile {number} gives axis {axis} of input '{spec.name}' {low[axis]} to {high[axis]}; "
                f"the model takes {spec.minimum[axis]} to {spec.maximum[axis]}"
            )
    return ShapeBounds(tuple(low), tuple(best), tuple(high))


def _must_share(inputs: Sequence[TensorSpec]) -> None:
    """One symbol is one size: inputs that share the batch share it in every profile."""
    seen: dict[tuple[int, str], tuple[str, tuple[int, int, int]]] = {}
    for spec in inputs:
        for axis, symbol in enumerate(spec.shape):
            for number, b in enumerate(spec.profiles):
                size = (b.minimum[axis], b.optimum[axis], b.maximum[axis])
                if not isinstance(symbol, str):
                    continue
                other, first = seen.setdefault((number, symbol), (spec.name, size))
                if first != size:
                    raise InputError(
                        f"profile {number} gives '{symbol}' {_three(first)} in input '{other}' and "
                        f"{_three(size)} in '{spec.name}', which share it; give both the same"
                    )


def _overlaps(inputs: Sequence[TensorSpec]) -> list[str]:
    count = len(inputs[0].profiles)
    pairs = [
        f"{a} and {b}"
        for a in range(count)
        for b in range(a + 1, count)
        if all(_meet(s.profiles[a], s.profiles[b]) for s in inputs)
    ]
    if not pairs:
        return []
    return [
        f"profiles {', '.join(pairs)} overlap: a shape that fits both runs in the one whose optimum is nearer"
    ]


def _meet(one: ShapeBounds, other: ShapeBounds) -> bool:
    lows = (max(a, b) for a, b in zip(one.minimum, other.minimum, strict=True))
    highs = (min(a, b) for a, b in zip(one.maximum, other.maximum, strict=True))
    return all(low <= high for low, high in zip(lows, highs, strict=True))


def profile_words(profiles: Sequence[Profile]) -> list[str]:
    """The profiles as command-line words."""
    return [f"--profile={_shown(profile)}" for profile in profiles]


def _shown(profile: Profile) -> str:
    parts = []
    for r in profile:
        shapes = [r.optimum] if r.minimum == r.maximum else [r.minimum, r.optimum, r.maximum]
        parts.append((f"{r.name}:" if r.name else "") + "/".join(map(dims, shapes)))
    return ",".join(parts)


def _called(name: str | None) -> str:
    return f"'{name}'" if name else "(unnamed)"


def _three(size: tuple[int, int, int]) -> str:
    return "/".join(map(str, size))
