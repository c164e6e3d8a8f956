"""An engine's optimisation profiles + the shapes of a call -> the profile that serves it, or a refusal in words.

A call must fit one profile as a whole. Where several fit, the one whose optimum is nearest is taken: its kernels
were chosen for such shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scconv_deploy.config import dims
from scconv_deploy.errors import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Smallest, optimum and largest shape of one input in one profile."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def fits(self, shape: Shape) -> bool:
        """Whether the profile takes this shape."""
        return len(shape) == len(self.minimum) and all(
            low <= size <= high for low, size, high in zip(self.minimum, shape, self.maximum, strict=True)
        )

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return dims(self.minimum)
        return f"{dims(self.minimum)} to {dims(self.maximum)}"


Profile = Mapping[str, Bounds]


def of_engine(engine: Any, names: Sequence[str]) -> tuple[Profile, ...]:
    """Every profile of a loaded engine, by input name."""
    return tuple(
        {
            name: Bounds(*(tuple(int(d) for d in s) for s in engine.get_tensor_profile_shape(name, index)))
            for name in names
        }
        for index in range(engine.num_optimization_profiles)
    )


def choose(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int:
    """Index of the profile to use.

    Raises:
        InputError: no profile takes these shapes together; the message says what each takes.
    """
    fitting = [i for i, p in enumerate(profiles) if all(p[n].fits(s) for n, s in shapes.items())]
    if not fitting:
        raise InputError(_refusal(profiles, shapes))
    return min(fitting, key=lambda i: _distance(profiles[i], shapes))


def _refusal(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> str:
    for name, shape in shapes.items():
        if not any(p[name].fits(shape) for p in profiles):
            takes = "; or ".join(dict.fromkeys(str(p[name]) for p in profiles))
            return f"input '{name}' has shape {dims(shape)}; this engine takes {takes}"
    given = ", ".join(f"{name} {dims(shape)}" for name, shape in shapes.items())
    takes = "; ".join(
        f"profile {i}: {', '.join(f'{n} {b}' for n, b in p.items())}" for i, p in enumerate(profiles)
    )
    return f"no profile of this engine takes {given} together; it takes {takes}"


def _distance(profile: Profile, shapes: Mapping[str, Shape]) -> float:
    """Sum of |log(size / optimum)|: a factor of two too much counts as a factor of two too little."""
    return sum(
        abs(math.log(max(1, size) / max(1, best)))
        for name, shape in shapes.items()
        for size, best in zip(shape, profile[name].optimum, strict=True)
    )
