"""Order of packed weights, groups found again in dense kernels, and zero channels between: what each says it does."""

from __future__ import annotations

import numpy as np
import pytest

from scconv_deploy.runtime.block_weights import (
    added_up,
    copied_from,
    largest_groups,
    packed,
    packed_taps,
    places,
    split_groups,
    spread_out,
)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape)


def test_the_order_of_packed_weights() -> None:
    weight, taps = numbers(32, 5), numbers(32, 5, 3, 3)
    for o, i in ((0, 0), (17, 3), (31, 4)):
        assert packed(weight, 16)[o // 16, i, o % 16] == weight[o, i]
        assert packed_taps(taps, 16)[o // 16, 2, 1, i, o % 16] == taps[o, i, 2, 1]
    assert packed(weight, 8).shape == (4, 5, 8)
    assert packed_taps(taps, 8).shape == (4, 3, 3, 5, 8)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_and_pointwise_kernels_are_added_up_and_found_again(groups: int) -> None:
    gwc, pwc1 = numbers(64, 16 // groups, 3, 3), numbers(64, 16, 1, 1)
    dense = added_up([(gwc, groups), (pwc1, 1)])
    assert dense.shape == (64, 16, 3, 3)
    assert dense[0, 0, 1, 1] == gwc[0, 0, 1, 1] + pwc1[0, 0, 0, 0]
    assert dense[63, 15, 0, 0] == gwc[63, -1, 0, 0]
    assert largest_groups(dense, 16) == groups
    taps, between = split_groups(dense, groups)
    again = added_up([(taps, groups), (between[:, :, None, None], 1)])
    np.testing.assert_allclose(again, dense, rtol=1e-6)
    if groups > 1:
        assert not between[0, : 16 // groups].any()
        assert between[0, 16 // groups :].all()


def test_one_tap_between_groups_makes_them_one() -> None:
    dense = added_up([(numbers(64, 8, 3, 3), 2)])
    assert largest_groups(dense, 16) == 2
    dense[0, 15, 1, 1] = 1.0  # the centre may be anything
    assert largest_groups(dense, 16) == 2
    dense[0, 15, 1, 2] = 1e-30
    assert largest_groups(dense, 16) == 1


@pytest.mark.parametrize(("groups", "block", "found"), [(8, 16, 4), (8, 8, 8), (3, 16, 3), (6, 16, 3)])
def test_groups_leave_whole_blocks_of_outputs(groups: int, block: int, found: int) -> None:
    outputs, inputs = (48, 12) if groups % 3 == 0 else (64, 16)
    dense = added_up([(numbers(outputs, inputs // groups, 3, 3), groups)])
    assert largest_groups(dense, block) == found


def test_what_is_a_copy() -> None:
    weight, bias = numbers(64, 16), np.zeros(64)
    assert copied_from(weight, bias, 16) == 64
    weight[48:] = np.eye(16)
    assert copied_from(weight, bias, 16) == 48
    assert copied_from(weight[:40], bias[:40], 16) == 40
    assert copied_from(weight[40:], bias[40:], 16) == 24  # begins no block
    bias[50] = 1.0
    assert copied_from(weight, bias, 16) == 64
    assert copied_from(numbers(8, 16), np.zeros(8), 8) == 8


@pytest.mark.parametrize(
    ("channels", "groups", "block", "where", "count"),
    [
        (16, 2, 16, range(16), 16),
        (4, 1, 8, range(4), 8),
        (4, 2, 8, [0, 1, 4, 5], 8),
        (6, 3, 8, [0, 1, 8, 9, 16, 17], 24),
    ],
)
def test_zero_channels_stand_in_each_group(
    channels: int, groups: int, block: int, where: list[int], count: int
) -> None:
    found = places(channels, groups, block)
    assert list(found) == [*where, count]
    array = numbers(channels, 3)
    rows, columns = spread_out(array, 0, found), spread_out(array.T, 1, found)
    np.testing.assert_array_equal(rows, columns.T)
    np.testing.assert_array_equal(rows[list(where)], array)
    assert np.count_nonzero(rows) == array.size
    assert rows.shape == (count, 3)
