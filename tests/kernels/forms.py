"""Every operator of the domain ``scconv``, and seeded cases for them."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tests.kernels.reference import SRUCase

SRU_FORMS = tuple(
    "_".join(["SRU", gate, *flags])
    for gate in ("hard", "soft", "complement_soft", "static")
    for count in range(5)
    for flags in combinations(("std", "ge", "normalised", "within"), count)
    if not (gate == "static" and "ge" in flags)
)
FUSE_FORMS = tuple(
    "_".join(["CRUFuse", fuse, *flags])
    for fuse in ("joint", "pair")
    for count in range(4)
    for flags in combinations(("affine", "add", "relu"), count)
)


def sru_case(operator: str, channels: int, groups: int, seed: int, size: float = 1.0) -> SRUCase:
    """Random constants of either sign; ``size`` multiplies the scale, and with it s."""
    generator = np.random.default_rng(seed)

    def normal(spread: float) -> np.ndarray:
        return (generator.normal(size=channels) * spread).astype(np.float32)

    return SRUCase(
        operator,
        groups,
        scale=normal(size),
        shift=normal(0.1),
        weight=normal(1.0),
        mask=(generator.random(channels) > 0.5).astype(np.float32),
        logit=0.25 if seed % 2 else 0.0,
    )


def image(shape: tuple[int, ...], seed: int, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Random values with a mean well away from zero."""
    generator = np.random.default_rng(seed + 1000)
    return (generator.normal(size=shape) * 3 + 1).astype(dtype)


def groups_for(operator: str, channels: int, plane: int, wanted: int) -> int:
    """The nearest number of groups not above ``wanted`` that the form allows."""
    whole = channels * plane if "std" in operator.split("_") else channels
    return next(g for g in range(min(wanted, channels), 0, -1) if whole % g == 0)
