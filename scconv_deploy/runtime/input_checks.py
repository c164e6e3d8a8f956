"""A manifest's inputs + the arrays of a call -> the same arrays, or a refusal in words before the backend sees them.

Shapes and types that were accepted once are remembered, so that a serving loop pays for a look-up and not for the
whole comparison (:class:`InputChecks`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from scconv_deploy.errors import InputError, first_line, nearest
from scconv_deploy.runtime.device_array import DeviceArray, is_on_gpu
from scconv_deploy.runtime.dtypes import numpy_dtype
from scconv_deploy.runtime.engine_profiles import Bounds, Profile, Shape, choose

REMEMBERED = 256
"""Accepted combinations of shapes; a free batch and image size may give many."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input as the manifest has it. ``profiles`` is empty where all shapes within the bounds are taken."""

    name: str
    dtype: np.dtype[Any]
    bounds: Bounds
    multiple_of: Mapping[int, int]
    profiles: tuple[Bounds, ...] = ()


class InputChecks:
    """Compares the arrays of a call with the manifest. Thread-safe.

    ``on_gpu``: the backend takes tensors that lie in a GPU's memory, as
    :class:`~scconv_deploy.runtime.device_array.DeviceArray`.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]], on_gpu: bool = False) -> None:
        self._on_gpu = on_gpu
        self.specs = tuple(map(_parse, entries))
        self._by_name = {spec.name: spec for spec in self.specs}
        self._profiles = _profiles(self.specs)
        self._accepted: set[tuple[object, ...]] = set()

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The same arrays; those of other libraries (DLPack, on the CPU) as NumPy sees them, without a copy.

        Raises:
            InputError: in words, for the first that does not fit.
        """
        arrays = self._as_arrays(inputs)
        key = tuple([(name, array.shape, array.dtype) for name, array in arrays.items()])
        if key in self._accepted:
            return arrays
        self._compare(arrays)
        if len(self._accepted) < REMEMBERED:
            self._accepted.add(key)
        return arrays

    def targets(self, into: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a call that outputs are written into.

        Raises:
            InputError: one is no NumPy array, and no tensor on the GPU that the backend writes to.
        """
        return {name: self._target(f"the array for output '{name}'", given) for name, given in into.items()}

    def optima(self) -> tuple[dict[str, Shape], ...]:
        """The optimum shapes of every profile; of the only one where there are none."""
        profiles = self._profiles or ({spec.name: spec.bounds for spec in self.specs},)
        return tuple({name: bounds.optimum for name, bounds in p.items()} for p in profiles)

    def _as_arrays(self, inputs: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        for value in inputs.values():
            if type(value) is not np.ndarray:
                return {name: self._array(name, value) for name, value in inputs.items()}
        return inputs

    def _array(self, name: str, value: object) -> np.ndarray:
        if self._on_gpu and is_on_gpu(value):
            return cast("np.ndarray", DeviceArray(value, f"input '{name}'"))
        return _array(name, value)

    def _target(self, called: str, value: object) -> np.ndarray:
        if isinstance(value, np.ndarray):
            return value
        if self._on_gpu and is_on_gpu(value):
            return cast("np.ndarray", DeviceArray(value, called))
        raise InputError(f"{called} must be a numpy array, not {type(value).__name__}")

    def _compare(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name in inputs:
            if name not in self._by_name:
                raise InputError(
                    f"no input is called '{name}' (the engine takes {', '.join(self._by_name)})"
                    f"{nearest(name, self._by_name)}"
                )
        for name, spec in self._by_name.items():
            if name not in inputs:
                raise InputError(f"input '{name}' is missing")
            _check_array(inputs[name], spec)
        if self._profiles:
            choose(self._profiles, {name: tuple(inputs[name].shape) for name in self._profiles[0]})


def _array(name: str, value: object) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "__dlpack__"):
        raise InputError(f"input '{name}' must be a numpy array, not {type(value).__name__}")
    try:
        return np.from_dlpack(cast("Any", value))
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"input '{name}' is a {type(value).__name__} that NumPy cannot see through DLPack "
            f"({first_line(error)}); bring it to the CPU and detach it first"
        ) from error


def _parse(entry: Mapping[str, Any]) -> InputSpec:
    return InputSpec(
        name=str(entry["name"]),
        dtype=numpy_dtype(str(entry["dtype"])),
        bounds=_bounds(entry),
        multiple_of={int(axis): int(m) for axis, m in entry.get("multiple_of", {}).items()},
        profiles=tuple(map(_bounds, entry.get("profiles", ()))),
    )


def _bounds(entry: Mapping[str, Any]) -> Bounds:
    low, high = tuple(entry["minimum"]), tuple(entry["maximum"])
    return Bounds(low, tuple(entry.get("optimum") or low), high)


def _profiles(specs: Sequence[InputSpec]) -> tuple[Profile, ...]:
    """Profile i of the engine: every input's i-th; inputs without profiles keep their own bounds in each."""
    count = max((len(spec.profiles) for spec in specs), default=0)
    return tuple(
        {s.name: s.profiles[i] if i < len(s.profiles) else s.bounds for s in specs} for i in range(count)
    )


def _check_array(array: np.ndarray, spec: InputSpec) -> None:
    if array.dtype != spec.dtype:
        raise InputError(f"input '{spec.name}' must be {spec.dtype}, not {array.dtype}; convert it")
    if array.ndim != len(spec.bounds.minimum):
        raise InputError(
            f"input '{spec.name}' has {array.ndim} axes; the engine takes {len(spec.bounds.minimum)}"
        )
    for axis, size in enumerate(array.shape):
        low, high = spec.bounds.minimum[axis], spec.bounds.maximum[axis]
        if not low <= size <= high:
            allowed = str(low) if low == high else f"{low} to {high}"
            raise InputError(f"input '{spec.name}' has {size} on axis {axis}; the engine takes {allowed}")
        if size % spec.multiple_of.get(axis, 1):
            raise InputError(
                f"input '{spec.name}' has {size} on axis {axis}; "
                f"it must be a multiple of {spec.multiple_of[axis]}"
            )


def check_target(name: str, given: np.ndarray, shape: Shape, kind: np.dtype[Any]) -> None:
    """Refuse an array that an output cannot be written into.

    Raises:
        InputError: its shape, type or memory does not fit.
    """
    if isinstance(given, DeviceArray):
        fits = given.shape == shape and given.dtype == kind
    else:
        flags = given.flags
        fits = given.shape == shape and given.dtype == kind and flags.c_contiguous and flags.writeable
    if not fits:
        raise InputError(
            f"the array for output '{name}' must be writable, contiguous, {kind} and of shape {shape}; it is "
            f"{given.dtype} of shape {given.shape}"
        )


def moved_into(results: dict[str, np.ndarray], into: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Results, those that ``into`` names copied into its arrays; InputError where one does not fit."""
    for name, array in into.items():
        check_target(name, array, results[name].shape, results[name].dtype)
    for name, array in into.items():
        np.copyto(array, results[name])
    return {**results, **into}
