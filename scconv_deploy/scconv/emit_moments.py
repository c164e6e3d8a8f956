"""SRU's normalisation from per-channel moments -> ONNX operators, for runtimes whose layout is not planar.

``scale_c * (x - mu_g) / sigma_g + shift_c`` needs mean and deviation of a group of channels. Normalisations over
a Reshape to (N, groups, -1) make a blocked or channels-last runtime turn the whole tensor into planes and back.
With M values per group and HW per channel, both follow from two numbers per channel, which any layout reduces as
it lies:

    mu_g = mean_c(mean(x_c)),   var_g = mean_c(||x_c||^2 / HW) - mu_g^2,
    sigma_g = sqrt(var_g + eps), or sqrt(var_g * M / (M - 1)) + eps for the unbiased form,

exact in real arithmetic since every channel of a group has the same HW. In float32 the difference costs digits
where a mean is large against the deviation (a variance known to about 1e-7 * (1 + (mu/sigma)^2)); behind a BatchNorm
and ReLU, where SRUs stand, the quotient is about 1. It is clamped at 0. ``x - mu`` is taken before the slope, so
that a large mean takes no digits from the gate's logit itself.

Refused: groups that cut a channel (C not a multiple of the number of groups), which fall back to the other form.
Twin: ``tests/scconv/test_emit_moments.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scconv_deploy.scconv.spec import Norm, SRUSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size, Writer


def takes_moments(spec: SRUSpec, style: GraphStyle) -> bool:
    """Whether the form is asked for and legal."""
    return style.channel_moments and spec.channels % spec.groups == 0


def normalise_by_channel(
    w: Writer, spec: SRUSpec, x: str, shape: Sequence[Size], scale: str, shift: str
) -> str:
    """``scale * xhat + shift`` for ``x`` of (N, C, H, W); the constants are (C,), in the type of ``x``."""
    axes = w.constant(np.array([2, 3], np.int64))
    count = _count(w, x, shape)
    cut = w.constant(np.array([0, spec.groups, -1], np.int64))
    last = w.constant(np.array([2], np.int64))
    means = w.op("Reshape", (w.op("ReduceMean", (x, axes), keepdims=1), cut))
    norms = w.op("Reshape", (w.op("ReduceL2", (x, axes), keepdims=1), cut))
    mean = w.op("ReduceMean", (means, last), keepdims=1)
    squares = w.op("Div", (w.op("Mul", (norms, norms)), count))
    difference = w.op("Sub", (w.op("ReduceMean", (squares, last), keepdims=1), w.op("Mul", (mean, mean))))
    sigma = _sigma(w, spec, w.op("Max", (difference, w.scalar(0.0))), count)
    # (N, groups, 1) against (1, groups, C / groups): one value per channel.
    grouped = w.constant(np.array([1, spec.groups, -1], np.int64))
    column = w.constant(np.array([0, spec.channels, 1, 1], np.int64))
    slope = w.op("Reshape", (w.op("Div", (w.op("Reshape", (scale, grouped)), sigma)), column))
    zeros = w.op("Reshape", (w.filled(0.0, spec.channels), grouped))
    centre = w.op("Reshape", (w.op("Add", (zeros, mean)), column))
    offset = w.op("Reshape", (shift, w.constant(np.array([1, -1, 1, 1], np.int64))))
    return w.op("Add", (w.op("Mul", (w.op("Sub", (x, centre)), slope)), offset))


def _count(w: Writer, x: str, shape: Sequence[Size]) -> str:
    """Values per channel, HW."""
    height, width = shape[2], shape[3]
    if isinstance(height, int) and isinstance(width, int):
        return w.scalar(float(height * width))
    extents = w.op("Shape", (x,), start=2, end=4)
    product = w.op("ReduceProd", (extents,), keepdims=0)
    return w.op("Cast", (product,), to=w.dtype)


def _sigma(w: Writer, spec: SRUSpec, variance: str, count: str) -> str:
    eps = w.scalar(spec.eps)
    if spec.norm is Norm.GROUP_NORM:
        return w.op("Sqrt", (w.op("Add", (variance, eps)),))
    whole = w.op("Mul", (count, w.scalar(float(spec.channels // spec.groups))))
    unbiased = w.op("Div", (w.op("Mul", (variance, whole)), w.op("Sub", (whole, w.scalar(1.0)))))
    return w.op("Add", (w.op("Sqrt", (unbiased,)), eps))
