"""The two fused operators in float64 NumPy, written from the paper's equations and not from the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLIP_BAND = 4e-6
"""A gate this near to its threshold, relative to the largest |s|, may be decided either way by rounding."""


@dataclass(frozen=True)
class SRUCase:
    """One SRU with its constants; ``operator`` is its name after ``scconv::``."""

    operator: str
    groups: int
    scale: np.ndarray
    shift: np.ndarray
    weight: np.ndarray
    mask: np.ndarray
    logit: float = 0.0
    epsilon: float = 1e-5

    @property
    def flags(self) -> list[str]:
        return self.operator.split("_")

    def inputs(self) -> dict[str, np.ndarray]:
        """Constants that the operator takes after x, in its order."""
        taken = {"scale": self.scale, "shift": self.shift}
        if "normalised" in self.flags:
            taken["weight"] = self.weight
        if "static" in self.flags:
            taken["mask"] = self.mask
        return taken

    def attributes(self) -> dict[str, float | int]:
        found: dict[str, float | int] = {"groups": self.groups, "epsilon": self.epsilon}
        if "static" not in self.flags:
            found["logit"] = self.logit
        return found


@dataclass(frozen=True)
class Expected:
    """Results, the size of the terms they were added from, and where rounding may decide otherwise."""

    values: tuple[np.ndarray, ...]
    scales: tuple[np.ndarray, ...]
    flips: np.ndarray


def sru(case: SRUCase, x: np.ndarray) -> Expected:
    """Equations 1 to 5 for x of shape (N, C, H, W)."""
    wide = x.astype(np.float64)
    n, c = x.shape[:2]
    groups = wide.reshape(n, case.groups, int(np.prod(x.shape[1:])) // case.groups)
    mean = groups.mean(axis=2, keepdims=True)
    if "std" in case.flags:
        sigma = groups.std(axis=2, ddof=1, keepdims=True) + case.epsilon
    else:
        sigma = np.sqrt(groups.var(axis=2, keepdims=True) + case.epsilon)
    xhat = ((groups - mean) / sigma).reshape(x.shape)
    column = (c, 1, 1)
    affine = case.scale.astype(np.float64).reshape(column) * xhat + case.shift.reshape(column)
    normalised = "normalised" in case.flags
    s = affine * case.weight.reshape(column) if normalised else affine
    gated = affine if normalised else wide
    with np.errstate(over="ignore"):
        r = 1.0 / (1.0 + np.exp(-s))
    logit = float(np.float32(case.logit))
    above = s >= logit if "ge" in case.flags else s > logit
    if "static" in case.flags:
        kept, rest = case.mask.reshape(column) * r * gated, (1 - case.mask.reshape(column)) * r * gated
    elif "hard" in case.flags:
        kept, rest = above * gated, ~above * gated
    elif "complement" in case.flags:
        kept, rest = np.where(above, 1, r) * gated, np.where(above, r, 0) * gated
    else:
        kept, rest = np.where(above, 1, r) * gated, np.where(above, 0, r) * gated
    k_a, k_b = kept[:, : c // 2], kept[:, c // 2 :]
    r_a, r_b = rest[:, : c // 2], rest[:, c // 2 :]
    halves = (k_a + k_b, r_a + r_b) if "within" in case.flags else (k_a + r_b, k_b + r_a)
    # What rounding does to s, whose four factors are floats, moves sigmoid(s) by |s| times as much.
    size = (np.abs(gated) + np.abs(case.shift).reshape(column) * normalised) * (1 + 2 * np.abs(s))
    size = size[:, : c // 2] + size[:, c // 2 :]
    close = np.abs(s - logit) <= FLIP_BAND * np.abs(s).max(initial=1e-30)
    flips = (close[:, : c // 2] | close[:, c // 2 :]) & ("static" not in case.flags)
    return Expected(halves, (size, size), flips)


def fuse(
    operator: str,
    y1: np.ndarray,
    y2: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    added: np.ndarray | None = None,
) -> Expected:
    """Equations 7 to 9, with a folded BatchNorm, a residual and a ReLU where the name says so."""
    flags = operator.split("_")
    wide = y1.astype(np.float64), y2.astype(np.float64)
    q = [y.mean(axis=(2, 3), keepdims=True) for y in wide]
    together = np.stack(q) if "pair" in flags else np.concatenate(q, axis=1)[None]
    axes = 0 if "pair" in flags else 2
    top = together.max(axis=axes, keepdims=True)
    e = np.exp(together - top)
    p = e / e.sum(axis=axes, keepdims=True)
    p1, p2 = (p[0], p[1]) if "pair" in flags else np.split(p[0], 2, axis=1)
    size = np.abs(wide[0] * p1) + np.abs(wide[1] * p2)
    out = wide[0] * p1 + wide[1] * p2
    if "affine" in flags:
        a, c = scale.astype(np.float64).reshape(-1, 1, 1), shift.astype(np.float64).reshape(-1, 1, 1)
        out, size = a * out + c, np.abs(a) * size + np.abs(c)
    if "add" in flags:
        assert added is not None
        out, size = out + added.astype(np.float64), size + np.abs(added)
    if "relu" in flags:
        out = np.maximum(out, 0)
    # Rounding of the means moves the weights by as much, in relative terms.
    size = size * (1 + np.abs(np.concatenate(q, axis=1)).max(initial=0.0))
    return Expected((out,), (size,), np.zeros(out.shape, bool))


def worst(expected: Expected, got: tuple[np.ndarray, ...]) -> float:
    """Largest error off the flips in units of the terms' size, less half a step of float16 results."""
    found = 0.0
    for want, size, have in zip(expected.values, expected.scales, got, strict=True):
        assert want.shape == have.shape
        assert np.isfinite(have).all()
        step = 2.0**-11 * np.abs(want) + 2.0**-25 if have.dtype == np.float16 else 0.0
        error = np.maximum(np.abs(have.astype(np.float64) - want) - step, 0.0) / (size + 1e-30)
        found = max(found, float(error[~expected.flips].max(initial=0.0)))
    return found
