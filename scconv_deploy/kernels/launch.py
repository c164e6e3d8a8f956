"""A fused operator and the shape it meets -> which kernels to launch, with which grid and integer arguments.

SRU is one kernel, the fuse two (``CRUPool`` and ``CRUMix``). ``batch`` and ``plane`` (H*W) may be symbols of
TensorRT instead of numbers (anything with ``*`` and a matching ``cdiv``); channels and groups are numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scconv_deploy.errors import InputError
from scconv_deploy.kernels.ptx import BYTES, POOL, WHOLE, KernelSpec, Layout

SRU_THREADS = 512
FUSE_THREADS = 256
SPLITS = 8
"""``kSplits`` of ``cuda/pool.cuh``: parts of a plane that the fuse adds up apart."""
WIDEST = 512
"""``kWidest`` of ``cuda/sru_last.cuh``."""
MOST_CHANNELS = 64
"""``kMostChannels`` of ``cuda/mix.cuh``."""
VALUES_PER_BLOCK = 16384
"""Of ``CRUMix``: enough to make working the softmax out again per block cheap (2C values per block)."""
WIDE_GRID = 512
"""From so many blocks on, an SRU's bundles are widened to whole 32-byte sectors."""

Number = Any
"""An int, or TensorRT's symbolic integer."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch: one-dimensional grid and block, and the integers between inputs and outputs."""

    kernel: KernelSpec
    grid: Number
    block: int
    extras: tuple[Number, ...]


def ceil_div(value: int, by: int) -> int:
    """``value / by``, rounded up."""
    return -(-value // by)


def bits(value: float) -> int:
    """A float32's bits as a signed integer: TensorRT passes only integers to a kernel."""
    return int(struct.unpack("<i", struct.pack("<f", value))[0])


def last_width(channels: int, groups: int, dtype: str, batch: int | None = None) -> tuple[int, int] | None:
    """Channels at once and channels per block of SRU's channels-last kernel.

    None where there is no such kernel: an odd number of groups, groups that are not whole channels, or more
    than 512 channels in a group.
    """
    if channels % (2 * groups):
        return None
    half, per_group = channels // 2, channels // groups
    for each in (4, 1):
        width = math.lcm(per_group, each)
        if half % each == 0 and half % width == 0 and width <= WIDEST:
            break
    else:
        return None
    wanted = 32 if batch is not None and batch * half // width >= WIDE_GRID else 16
    while width * BYTES[dtype] < wanted and half % (2 * width) == 0:
        width *= 2
    return each, width


def fuse_each(channels: int, dtype: str) -> int:
    """Channels that the fuse's channels-last kernels move at once."""
    most = 16 // BYTES[dtype]
    return most if channels % most == 0 else 1


def sru_launch(
    operator: str,
    dtype: str,
    layout: Layout,
    batch: Number,
    channels: int,
    plane: Number,
    attributes: Mapping[str, float],
) -> Launch:
    """The one launch of ``SRU_*``; ``attributes`` holds groups, epsilon and, but for a static gate, logit.

    Raises:
        InputError: the layout has no kernel for these channels and groups.
    """
    groups = int(attributes["groups"])
    sizes = (channels, plane, groups)
    floats = (bits(attributes["epsilon"]), bits(attributes.get("logit", 0.0)))
    if layout is Layout.PLANAR:
        grid = batch * ceil_div(groups, 2)
        return Launch(KernelSpec(operator, dtype), grid, SRU_THREADS, (*sizes, *floats))
    found = last_width(channels, groups, dtype, batch if isinstance(batch, int) else None)
    if found is None:
        raise InputError(f"no channels-last kernel does {groups} groups of {channels} channels")
    each, width = found
    kernel = KernelSpec(operator, dtype, layout, each)
    return Launch(kernel, batch * ceil_div(channels // 2, width), SRU_THREADS, (*sizes, width, *floats))


def pool_launch(
    operator: str, dtype: str, layout: Layout, batch: Number, channels: int, plane: Number
) -> Launch:
    """Of ``CRUPool`` or ``CRUPoolWhole``: (y1, y2), of C channels each, -> sums (N, SPLITS, 2C)."""
    if layout is Layout.PLANAR:
        grid = batch * ceil_div(SPLITS * 2 * channels * 32, FUSE_THREADS)
        return Launch(KernelSpec(operator, dtype), grid, FUSE_THREADS, (batch, channels, plane))
    kernel = KernelSpec(operator, dtype, layout, fuse_each(channels, dtype))
    return Launch(kernel, batch * (2 * SPLITS), FUSE_THREADS, (channels, plane))


def mix_launch(
    operator: str,
    dtype: str,
    layout: Layout,
    batch: Number,
    channels: int,
    plane: Number,
    typical_plane: int,
    cdiv: Callable[[Number, int], Number] = ceil_div,
) -> Launch:
    """Of ``CRUMix_*``; ``typical_plane`` is a number to choose sizes by where ``plane`` is a symbol."""
    if layout is Layout.PLANAR:
        width = max(1, min(MOST_CHANNELS, channels, VALUES_PER_BLOCK // max(1, typical_plane)))
        grid = batch * ceil_div(channels, width)
        return Launch(KernelSpec(operator, dtype), grid, FUSE_THREADS, (channels, plane, width))
    positions = max(1, VALUES_PER_BLOCK // channels)
    kernel = KernelSpec(operator, dtype, layout, fuse_each(channels, dtype))
    return Launch(kernel, batch * cdiv(plane, positions), FUSE_THREADS, (channels, plane, positions))


def fuse_operators(fuse_operator: str) -> tuple[str, str]:
    """``CRUFuse_joint_affine`` -> ``CRUPool``, ``CRUMix_joint_affine``; ``CRUFuseWhole_*`` likewise."""
    whole = WHOLE if fuse_operator.partition("_")[0].endswith(WHOLE) else ""
    return POOL + whole, f"CRUMix{whole}_{fuse_operator.partition('_')[2]}"
