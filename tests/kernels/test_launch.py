"""Grids and integers of the launches; that they are right shows in ``tests/kernels/cuda``."""

from __future__ import annotations

import struct

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.kernels.launch import (
    WIDEST,
    bits,
    fuse_each,
    fuse_operators,
    last_width,
    mix_launch,
    pool_launch,
    sru_launch,
)
from scconv_deploy.kernels.ptx import Layout

SETTINGS = {"groups": 16, "epsilon": 1e-5, "logit": -0.25}


def test_floats_travel_as_their_bits() -> None:
    for value in (0.0, -0.25, 1e-5, 3e38):
        assert struct.unpack("<f", struct.pack("<i", bits(value)))[0] == pytest.approx(value, rel=1e-7)


def test_an_sru_has_one_block_per_pair_of_groups() -> None:
    assert sru_launch("SRU_soft", "fp32", Layout.PLANAR, 3, 64, 49, SETTINGS).grid == 3 * 8
    odd = {**SETTINGS, "groups": 7}
    assert sru_launch("SRU_soft", "fp32", Layout.PLANAR, 1, 14, 49, odd).grid == 4


@pytest.mark.parametrize("channels", [32, 64, 96, 256, 1024, 2048])
@pytest.mark.parametrize("groups", [2, 4, 16])
def test_bundles_hold_whole_groups_and_fill_a_sector(channels: int, groups: int) -> None:
    found = last_width(channels, groups, "fp16")
    if channels // groups > WIDEST:
        assert found is None
        return
    assert found is not None
    each, width = found
    assert width % (channels // groups) == 0
    assert width % each == 0
    assert width * 2 >= 16
    assert channels // 2 % width == 0


def test_large_grids_get_wider_bundles() -> None:
    narrow, wide = last_width(64, 16, "fp32", 1), last_width(64, 16, "fp32", 128)
    assert narrow is not None
    assert wide is not None
    assert wide[1] == 2 * narrow[1]


@pytest.mark.parametrize(("channels", "groups"), [(6, 3), (64, 1), (10, 4)])
def test_what_has_no_channels_last_kernel_is_refused(channels: int, groups: int) -> None:
    assert last_width(channels, groups, "fp32") is None
    with pytest.raises(InputError, match="channels-last"):
        sru_launch("SRU_soft", "fp32", Layout.LAST, 1, channels, 9, {**SETTINGS, "groups": groups})


def test_the_fuse_is_two_launches() -> None:
    assert fuse_operators("CRUFuse_pair_affine") == ("CRUPool", "CRUMix_pair_affine")
    assert fuse_operators("CRUFuseWhole_joint") == ("CRUPoolWhole", "CRUMixWhole_joint")
    pool = pool_launch("CRUPool", "fp16", Layout.LAST, 2, 64, 49)
    assert pool.extras == (64, 49)
    assert pool.grid == 2 * 16
    mix = mix_launch("CRUMix_joint", "fp16", Layout.LAST, 2, 64, 3136, 3136)
    assert mix.extras == (64, 3136, 256)
    assert mix.grid == 2 * 13
    assert [fuse_each(c, "fp16") for c in (64, 12, 5)] == [8, 1, 1]
