"""Samples or a seed -> the cases to compare: several batch sizes, and several sizes of a dynamic profile."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scconv_deploy.artifacts import ShapeBounds, TensorSpec
from scconv_deploy.config import dims
from scconv_deploy.errors import InputError, nearest
from scconv_deploy.inputs import example_tensors

MAX_SAMPLES = 512
"""Real samples used at most; enough for a top-1 agreement to 0.2 %."""

BATCHES = (1, 3, 4)
"""Batch sizes tried where the profile allows, beside its minimum, optimum and maximum. The last is the batch
that pieces are judged on and that travels with the bundle: the reference then runs on it only once."""

LARGEST_CASE = 2**24
"""Elements of the largest input tried (a profile's maximum may be far beyond memory)."""


@dataclass(frozen=True, slots=True)
class Case:
    """Named inputs of one run; ``real`` where they are the user's samples."""

    name: str
    inputs: Mapping[str, np.ndarray]
    real: bool = False


def read_samples(path: Path, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Samples by input name from an ``.npz`` (keys are input names, or ``inputs.NAME``) or one ``.npy``.

    Raises:
        InputError: unreadable, no array for an input, or shapes and dtypes that do not fit.
    """
    if not path.exists():
        raise InputError(f"samples file {path} does not exist")
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = dict(loaded) if hasattr(loaded, "files") else {specs[0].name: loaded}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a readable .npz or .npy file: {error}") from error
    found = {}
    for spec in specs:
        key = next((k for k in (spec.name, f"inputs.{spec.name}") if k in arrays), None)
        if key is None and len(specs) == 1:
            key = _only_fitting(arrays, spec)
        if key is None:
            raise InputError(
                f"{path} has no array '{spec.name}' (it has {', '.join(arrays)}){nearest(spec.name, arrays)}"
            )
        found[spec.name] = _fitting(arrays[key], spec, path)
    if len({len(a) for a in found.values()}) > 1:
        raise InputError(f"the arrays of {path} hold different numbers of samples")
    return found


def make_cases(
    specs: Sequence[TensorSpec], samples: Mapping[str, np.ndarray] | None, seed: int
) -> tuple[Case, ...]:
    """Real samples first where there are any, then seeded random inputs over the profile."""
    cases = _sample_cases(specs, samples) if samples else []
    profiles = _profiles(specs)
    if profiles and cases:
        cases = [c for c in cases if _fits({k: v.shape for k, v in c.inputs.items()}, profiles)]
        if not cases:
            raise InputError(
                "no batch of the samples fits a --profile; give samples of the sizes in one of them"
            )
    for index, shapes in enumerate(_shapes(specs)):
        tensors = example_tensors(specs, seed + 1 + index, shapes)
        arrays = {s.name: t.numpy() for s, t in zip(specs, tensors, strict=True)}
        cases.append(Case("random " + ", ".join(dims(a.shape) for a in arrays.values()), arrays))
    return tuple(cases)


def _sample_cases(specs: Sequence[TensorSpec], samples: Mapping[str, np.ndarray]) -> list[Case]:
    count = min(MAX_SAMPLES, *(len(a) for a in samples.values()))
    free = all(s.shape and isinstance(s.shape[0], str) for s in specs)
    if free:
        top = min(count, *(s.maximum[0] for s in specs))
        least = max(s.minimum[0] for s in specs)
        sizes, start = [], 0
        for size in (least, min(3, top), top):
            if least <= size <= count - start:
                sizes.append((start, size))
                start += size
        while count - start >= max(least, 1):
            size = min(top, count - start)
            sizes.append((start, size))
            start += size
    else:
        batch = specs[0].optimum[0]
        sizes = [(start, batch) for start in range(0, count - batch + 1, batch)][:64]
    return [
        Case(
            f"sample {start}" if size == 1 else f"samples {start} to {start + size - 1}",
            {s.name: samples[s.name][start : start + size] for s in specs},
            real=True,
        )
        for start, size in sizes
    ]


def _shapes(specs: Sequence[TensorSpec]) -> list[dict[str, tuple[int, ...]]]:
    """Distinct shapes of the profile: optimum at several batches, minimum, maximum, and between.

    Of several profiles each one's own bounds, and of the others those that some profile takes.
    """
    centre = {s.name: s.optimum for s in specs}
    wanted: list[dict[str, tuple[int, ...]]] = [centre]
    if all(s.shape and isinstance(s.shape[0], str) for s in specs):
        fitting = [b for b in BATCHES if all(s.minimum[0] <= b <= s.maximum[0] for s in specs)]
        wanted += [{s.name: (batch, *s.optimum[1:]) for s in specs} for batch in fitting]
    lows = {
        s.name: (min(3, s.maximum[0]) if s.minimum[0] == 1 else s.minimum[0], *s.minimum[1:]) for s in specs
    }
    wanted.append(lows)
    wanted.append({s.name: (s.minimum[0], *s.maximum[1:]) for s in specs})
    wanted.append({s.name: tuple(_middle(s, axis) for axis in range(len(s.shape))) for s in specs})
    profiles = _profiles(specs)
    if profiles:
        # The first case is the centre of the first profile, as it is of a single one.
        corners = [
            {name: getattr(bounds, which) for name, bounds in profile.items()}
            for profile in profiles
            for which in ("optimum", "minimum", "maximum")
        ]
        wanted = corners + [shapes for shapes in wanted if _fits(shapes, profiles)]
    unique: list[dict[str, tuple[int, ...]]] = []
    for shapes in wanted:
        small = all(np.prod(shape, dtype=np.float64) <= LARGEST_CASE for shape in shapes.values())
        if small and shapes not in unique:
            unique.append(shapes)
    return unique


def _profiles(specs: Sequence[TensorSpec]) -> list[dict[str, ShapeBounds]]:
    return [{s.name: s.profiles[i] for s in specs} for i in range(min(len(s.profiles) for s in specs))]


def _fits(shapes: Mapping[str, tuple[int, ...]], profiles: Sequence[Mapping[str, ShapeBounds]]) -> bool:
    """Whether one profile takes all shapes together."""
    return any(
        all(
            low <= size <= high
            for name, shape in shapes.items()
            for low, size, high in zip(profile[name].minimum, shape, profile[name].maximum, strict=True)
        )
        for profile in profiles
    )


def _middle(spec: TensorSpec, axis: int) -> int:
    """Between optimum and maximum on spatial axes (a multiple where that is required), else the minimum."""
    if axis < 2 or not isinstance(spec.shape[axis], str):
        return spec.minimum[axis]
    multiple = spec.multiple_of.get(axis, 1)
    middle = (spec.optimum[axis] + spec.maximum[axis]) // 2 // multiple * multiple
    return max(spec.minimum[axis], middle - (multiple if axis % 2 else 0))


def _only_fitting(arrays: Mapping[str, np.ndarray], spec: TensorSpec) -> str | None:
    """For a model with one input: the one array that could be its samples, whatever its name."""
    fitting = []
    for key, array in arrays.items():
        sizes = zip(array.shape[1:], spec.minimum[1:], spec.maximum[1:], strict=False)
        right_rank = array.ndim == len(spec.shape) and len(array) > 0
        if right_rank and all(lo <= size <= hi for size, lo, hi in sizes):
            fitting.append(key)
    return fitting[0] if len(fitting) == 1 else None


def _fitting(array: np.ndarray, spec: TensorSpec, path: Path) -> np.ndarray:
    if array.ndim != len(spec.shape):
        raise InputError(
            f"samples for '{spec.name}' in {path} have shape {array.shape}; the model takes "
            f"{len(spec.shape)} axes, the first being the sample"
        )
    for axis in range(1, array.ndim):
        if not spec.minimum[axis] <= array.shape[axis] <= spec.maximum[axis]:
            raise InputError(
                f"samples for '{spec.name}' in {path} have {array.shape[axis]} on axis {axis}; "
                f"the model takes {spec.minimum[axis]} to {spec.maximum[axis]}"
            )
    if len(array) == 0:
        raise InputError(f"{path} holds no samples")
    # The graph may take a 16-bit type; samples are read as the user's module takes them.
    wanted = np.dtype("float32" if spec.dtype in ("float16", "bfloat16") else spec.dtype)
    if array.dtype != wanted and not np.can_cast(array.dtype, wanted, "same_kind"):
        raise InputError(f"samples for '{spec.name}' in {path} are {array.dtype}; the model takes {wanted}")
    return np.ascontiguousarray(array, dtype=wanted)
