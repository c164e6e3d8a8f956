"""Weights of a block's convolutions -> arrays in the order in which the kernel of ``scconv::Block`` reads them.

For blocks of b output channels: 1x1 weights (O, I) as (O/b, I, b), grouped taps (O, I, k, k) as (O/b, k, k, I, b),
so that a vector of b output channels is in one piece and the next input's stands behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def packed(weight: np.ndarray, block: int) -> np.ndarray:
    """A 1x1 weight (O, I) as (O/block, I, block)."""
    outputs, inputs = weight.shape
    return np.ascontiguousarray(weight.reshape(outputs // block, block, inputs).transpose(0, 2, 1))


def packed_taps(weight: np.ndarray, block: int) -> np.ndarray:
    """Taps (O, I, k, k) as (O/block, k, k, I, block)."""
    outputs, inputs, *taps = weight.shape
    blocks = weight.reshape(outputs // block, block, inputs, *taps)
    return np.ascontiguousarray(blocks.transpose(0, 3, 4, 2, 1))


def added_up(kernels: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Convolutions of one input, whose results are added -> one dense kernel (O, I, k, k), float64.

    Args:
        kernels: of each its weight (O, I/groups, k, k), k odd and padded by (k - 1)/2, and its groups.
    """
    largest = max(weight.shape[2] for weight, _ in kernels)
    outputs = kernels[0][0].shape[0]
    inputs = kernels[0][0].shape[1] * kernels[0][1]
    total = np.zeros((outputs, inputs, largest, largest))
    for weight, groups in kernels:
        size = weight.shape[2]
        middle = slice((largest - size) // 2, (largest + size) // 2)
        rows, columns = outputs // groups, inputs // groups
        for g in range(groups):
            mine = slice(g * rows, (g + 1) * rows)
            total[mine, g * columns : (g + 1) * columns, middle, middle] += weight[mine]
    return total


def largest_groups(kernel: np.ndarray, block: int) -> int:
    """The most groups between which a dense kernel (O, I, k, k) is zero but at its centre.

    Only such as leave whole blocks of outputs in every group; 1 is one of them where O is a multiple of ``block``.
    """
    outputs, inputs, size, _ = kernel.shape
    beside = kernel != 0
    beside[:, :, size // 2, size // 2] = False
    used = beside.any(axis=(2, 3))
    return max(
        g
        for g in range(1, math.gcd(outputs // block, inputs) + 1)
        if (outputs // block) % g == 0 and inputs % g == 0 and not (used & ~_within(outputs, inputs, g)).any()
    )


def split_groups(kernel: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """A dense kernel (O, I, k, k) -> its taps within groups (O, I/groups, k, k) and its centre between them (O, I).

    The second is zero within groups, and the two together are the kernel if it is zero between groups but at its
    centre. float32.
    """
    outputs, inputs, size, _ = kernel.shape
    own = kernel.reshape(groups, outputs // groups, groups, inputs // groups, size, size)
    taps = np.concatenate([own[g, :, g] for g in range(groups)])
    between = np.where(_within(outputs, inputs, groups), 0, kernel[:, :, size // 2, size // 2])
    return taps.astype(np.float32), between.astype(np.float32)


def places(channels: int, groups: int, block: int) -> np.ndarray:
    """Where channels stand among so many more that they fill blocks, each group in as many: (channels,), and last
    how many there are then."""
    own = channels // groups
    count = -(-channels // block) * block
    while count % groups:
        count += block
    each = np.arange(channels)
    return np.append(each // own * (count // groups) + each % own, count)


def spread_out(array: np.ndarray, axis: int, where: np.ndarray) -> np.ndarray:
    """An array with its entries along ``axis`` where :func:`places` says, and zeros between."""
    if where[-1] == array.shape[axis]:
        return array
    shape = list(array.shape)
    shape[axis] = int(where[-1])
    made = np.zeros(shape, array.dtype)
    made.swapaxes(0, axis)[where[:-1]] = array.swapaxes(0, axis)
    return made


def copied_from(weight: np.ndarray, bias: np.ndarray, block: int) -> int:
    """The first output channel from which a 1x1 weight (O, I) with its bias (O,) hands its inputs on unchanged.

    O where it does not, or where that channel does not begin a block of outputs.
    """
    outputs, inputs = len(weight), weight.shape[1]
    first = outputs - inputs
    if first < 0 or first % block:
        return outputs
    copies = np.array_equal(weight[first:], np.eye(inputs)) and not bias[first:].any()
    return first if copies else outputs


def _within(outputs: int, inputs: int, groups: int) -> np.ndarray:
    """(O, I), True where output and input are of one group."""
    of_output = np.arange(outputs) // (outputs // groups)
    of_input = np.arange(inputs) // (inputs // groups)
    return np.equal.outer(of_output, of_input)
