"""One request, built several times -> the best engine by a criterion, and how far the others were from it.

TensorRT times kernels while it builds, so two builds may choose differently. TensorRT for RTX does not: engines
with static shapes come out as the same bytes, in any process. With dynamic shapes its plans hold numbered names of
shape expressions, and the numbers depend on the order in which its threads meet them (the digits net: some
hundred bytes of 4.4 MB, 2026-11-22). Whether engines differ is in the result, measured and not assumed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporters.trt.build import Plan
from exporters.trt.layers import read_kernels
from exporters.trt.report import device_kernels, is_static, report
from scconv_deploy.artifacts import Json, TensorSpec
from scconv_deploy.errors import BuildError
from scconv_deploy.runtime.dtypes import numpy_dtype
from scconv_deploy.runtime.tensorrt import TensorRTRunner
from scconv_deploy.tensorrt_options import Keep

UNITS = {Keep.SIZE: "bytes", Keep.KERNELS: "kernels", Keep.BYTES: "bytes moved", Keep.TIME: "ms"}
Judge = Callable[[Plan], float]


@dataclass(frozen=True, slots=True)
class Best:
    """The plan that was kept. ``spread`` is for the manifest, ``note`` for the user."""

    plan: Plan
    spread: dict[str, Json]
    note: str


def build_several(count: int, keep: Keep, build: Callable[[], Plan], judge: Judge) -> Best:
    """Build ``count`` times and keep the first of the best.

    Args:
        count: at least 2.
        keep: what ``judge`` measures, less being better.
        build: builds once.
        judge: a plan -> its figure.

    Raises:
        BuildError: a build failed, or its figure cannot be had.
    """
    best: Plan | None = None
    figures: list[float] = []
    seconds: list[float] = []
    contents: set[bytes] = set()
    for _ in range(count):
        plan = build()
        figures.append(judge(plan))
        seconds.append(plan.seconds)
        contents.add(plan.data)
        if best is None or figures[-1] < min(figures[:-1]):
            best = plan
    assert best is not None
    kept = figures.index(min(figures))
    spread: dict[str, Json] = {
        "builds": count,
        "keep": keep.value,
        "unit": UNITS[keep],
        "figures": list(figures),
        "median": statistics.median(figures),
        "kept": kept,
        "different_engines": len(contents),
        "build_seconds": [round(s, 3) for s in seconds],
    }
    return Best(best, spread, _note(count, keep, figures, kept, len(contents)))


def judge_of(keep: Keep, runtime: str, inputs: tuple[TensorSpec, ...], scratch: Path) -> Judge:
    """How a plan is measured.

    Args:
        keep: by what.
        runtime: of the plan, "tensorrt" or "tensorrt-rtx"; for time.
        inputs: with their optimum shapes; for time.
        scratch: a file that may be written and is removed again; for time.

    Raises (the judge): BuildError where the builder's log does not hold the figure.
    """
    if keep is Keep.SIZE:
        return lambda plan: len(plan.data)
    if keep is Keep.TIME:
        return lambda plan: _time(plan, runtime, inputs, scratch)
    return lambda plan: _counted(plan, keep)


def _counted(plan: Plan, keep: Keep) -> float:
    try:
        kernels = read_kernels(plan.layers or "")
        if keep is Keep.KERNELS:
            return len(device_kernels(kernels))
        if not is_static(kernels):
            raise BuildError(
                "the bytes that an engine with dynamic shapes moves cannot be read from its own log; "
                "use --keep kernels, or static shapes"
            )
        return report(kernels, ()).bytes_moved
    except ValueError as error:
        raise BuildError(
            f"the builder's log does not say how many {keep.value} the engine has ({error}); use --keep size"
        ) from error


def _time(plan: Plan, runtime: str, inputs: tuple[TensorSpec, ...], scratch: Path) -> float:
    """Median device time at the optimum shapes, inputs all zero: what a kernel takes depends on no value."""
    scratch.write_bytes(plan.data)
    try:
        with TensorRTRunner(scratch, runtime) as runner:
            arrays = {s.name: np.zeros(s.optimum, numpy_dtype(s.dtype)) for s in inputs}
            return runner.device_times(arrays).device_ms
    finally:
        scratch.unlink()


def _note(count: int, keep: Keep, figures: list[float], kept: int, different: int) -> str:
    unit = UNITS[keep]
    if different == 1:
        return f"all {count} builds gave the same engine, byte for byte ({figures[0]:g} {unit})"
    if min(figures) == max(figures):
        return (
            f"{count} builds gave {different} different engines, all of {figures[0]:g} {unit}; kept the first"
        )
    return (
        f"{count} builds gave {different} different engines, {min(figures):g} to {max(figures):g} {unit} "
        f"(median {statistics.median(figures):g}); kept number {kept + 1}, the one with the least"
    )
