"""A fused operator on NumPy arrays -> its launches, through anything that launches kernels.

``Launcher`` is the emulation here and the CUDA driver in ``tests/gpu``; the same cases go through both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import ml_dtypes
import numpy as np

from scconv_deploy.kernels.launch import SPLITS, Launch, fuse_operators, mix_launch, pool_launch, sru_launch
from scconv_deploy.kernels.ptx import KernelSpec, Layout
from tests.kernels.reference import Expected, SRUCase, fuse

DTYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
STEPS = {"fp32": 0.0, "fp16": 2.0**-11, "bf16": 2.0**-8}
"""Half a step of the stored type, relative; float32 results are judged by their own tolerance."""


class Launcher(Protocol):
    """Runs one kernel to its end; outputs are written in place."""

    def launch(
        self,
        spec: KernelSpec,
        grid: int,
        block: int,
        inputs: Sequence[np.ndarray],
        extras: Sequence[int],
        outputs: Sequence[np.ndarray],
    ) -> None: ...


def stored(x: np.ndarray, layout: Layout) -> np.ndarray:
    """(N, C, H, W) as it lies in memory."""
    return np.ascontiguousarray(x if layout is Layout.PLANAR else x.transpose(0, 2, 3, 1))


def planar(x: np.ndarray, layout: Layout) -> np.ndarray:
    """The other way round."""
    return x if layout is Layout.PLANAR else x.transpose(0, 3, 1, 2)


def run_sru(
    device: Launcher, case: SRUCase, x: np.ndarray, dtype: str, layout: Layout, whole: bool = False
) -> tuple[np.ndarray, ...]:
    """``x`` (N, C, H, W) -> y_a, y_b; with ``whole`` from one result."""
    n, c, h, w = x.shape
    operator = case.operator.replace("SRU", "SRUWhole") if whole else case.operator
    launch = sru_launch(operator, dtype, layout, n, c, h * w, case.attributes())
    inputs = [stored(x.astype(DTYPES[dtype]), layout), *case.inputs().values()]
    count = 1 if whole else 2
    outputs = [stored(np.full((n, c // count, h, w), np.nan, DTYPES[dtype]), layout) for _ in range(count)]
    _run(device, launch, inputs, outputs)
    made = tuple(planar(y, layout) for y in outputs)
    return tuple(np.split(made[0], 2, axis=1)) if whole else made


def run_fuse(
    device: Launcher,
    operator: str,
    y: tuple[np.ndarray, np.ndarray],
    constants: Mapping[str, np.ndarray],
    dtype: str,
    layout: Layout,
    whole: bool = False,
) -> np.ndarray:
    """``CRUFuse_*`` for y1, y2 (N, C, H, W) in its two launches; ``constants``: scale, shift and ``added``."""
    n, c, h, w = y[0].shape
    pool, mix = fuse_operators(operator.replace("CRUFuse", "CRUFuseWhole") if whole else operator)
    given = (np.concatenate(y, axis=1),) if whole else y
    pieces = [stored(p.astype(DTYPES[dtype]), layout) for p in given]
    parts = np.full((n, SPLITS, 2 * c), np.nan, np.float32)
    _run(device, pool_launch(pool, dtype, layout, n, c, h * w), pieces, [parts])
    launch = mix_launch(mix, dtype, layout, n, c, h * w, h * w)
    named = dict(constants)
    if "added" in launch.kernel.inputs:
        named["added"] = stored(named["added"].astype(DTYPES[dtype]), layout)
    more = [named[name] for name in launch.kernel.inputs[len(pieces) + 1 :]]
    out = stored(np.full((n, c, h, w), np.nan, DTYPES[dtype]), layout)
    _run(device, launch, [*pieces, parts, *more], [out])
    return planar(out, layout)


def _run(device: Launcher, launch: Launch, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
    device.launch(launch.kernel, launch.grid, launch.block, inputs, launch.extras, outputs)


def expected_fuse(
    operator: str, y: tuple[np.ndarray, np.ndarray], constants: Mapping[str, np.ndarray]
) -> Expected:
    """In float64, with ``added`` where the operator has it."""
    flags = operator.split("_")
    bare = "_".join(f for f in flags if f not in ("add", "relu"))
    found = fuse(bare, y[0], y[1], constants["scale"], constants["shift"])
    (value,), (size,) = found.values, found.scales
    if "add" in flags:
        value = value + constants["added"].astype(np.float64)
        size = size + np.abs(constants["added"].astype(np.float64))
    if "relu" in flags:
        value = np.maximum(value, 0.0)
    return Expected((value,), (size,), found.flips)


def error(expected: Expected, got: Sequence[np.ndarray], dtype: str) -> float:
    """Largest error off the flips in units of the terms' size, less half a step of the stored type."""
    found = 0.0
    for want, size, have in zip(expected.values, expected.scales, got, strict=True):
        assert want.shape == have.shape
        wide = have.astype(np.float64)
        if not np.isfinite(wide).all():
            return float("inf")
        step = STEPS[dtype] * np.abs(want) + (2.0**-25 if dtype == "fp16" else 0.0)
        off = np.maximum(np.abs(wide - want) - step, 0.0) / (size + 1e-30)
        found = max(found, float(off[~expected.flips].max(initial=0.0)))
    return found
