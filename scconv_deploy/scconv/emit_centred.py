"""SRU's normalisation from centred float32 moments -> ONNX operators that TensorRT makes one kernel of.

TensorRT's own group norm writes the whole normalised tensor (in float32, also where ``x`` is half), reads it again
in the gate and zeroes counters in a kernel of its own. Written as mean, centred second moment and an affine map,
the statistics become a kernel that reads ``x`` once and writes a few numbers, and the map joins the gate's kernel:
the float32 island costs no float32 tensor in memory. With M values per group and HW per channel:

* small groups: ``mu = mean(x)``, ``var = mean((x - mu)^2)`` over the group;
* large ones (a group no longer fits one thread block), by the law of total variance, every channel of a group having
  the same HW: ``m_c = mean(x_c)``, ``v_c = mean((x_c - m_c)^2)``, ``mu = mean_c(m_c)``,
  ``var = mean_c(v_c + (m_c - mu)^2)``.

Both are exact in real arithmetic, and no difference of large numbers is taken: every square is of a centred value,
so a mean that is large against the deviation costs no digits (E[x^2] - mu^2 would).
``sigma = sqrt(var + eps)``, or ``sqrt(var * M / (M - 1)) + eps`` for the unbiased form.

Statistics and gate read ``x`` with opposite signs: in float32 the statistics read ``-x`` and the gate computes
``x + mean(-x)``; in half precision the gate reads the converted ``-x`` and computes ``(mean(x) - x) * -slope``.
Rounding is symmetric, so every bit is the same. It keeps the builder from sharing one converted or reordered copy
of ``x`` between the two, which it would write to memory: a float32 copy in half precision, a planar one in float32
(124.7 against 147.8 MB in fp16, 249.3 against 275.8 in fp32; SCConv-ResNet-50, SM89, TensorRT-RTX 1.7.1, 2026-11-22).

Refused: groups that cut a channel (C not a multiple of the number of groups), the unbiased form with a free height
or width or a single value per group, and a gate in half precision; these keep the standard form.
Twins: ``tests/scconv/test_emit_centred.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from scconv_deploy.scconv.spec import Norm, SRUSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size, Writer

ONE_BLOCK = 16384
"""Values that one thread block reduces: groups of 12,544 became one kernel, groups of 25,088 five (RTX 1.7.1)."""
WIDE_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def takes_centred(spec: SRUSpec, style: GraphStyle, gate_dtype: int, shape: Sequence[Size]) -> bool:
    """Whether the form is asked for and legal; ``gate_dtype`` is the ONNX type the gate is computed in."""
    legal = spec.channels % spec.groups == 0
    if spec.norm is Norm.GROUP_STD:
        # M - 1 is a constant, and a group of one value has no deviation.
        legal = legal and (_size(spec, shape) or 0) > 1
    return style.centred_norm and legal and gate_dtype in WIDE_TYPES


class CentredNorm:
    """Writes the norm of one SRU; called as the other forms are, with the island's pen and value.

    Args:
        w: pen in the activations' type.
        x: the SRU's input in that type.
    """

    def __init__(self, w: Writer, x: str) -> None:
        self._w = w
        self._x = x

    def __call__(
        self, wide: Writer, spec: SRUSpec, inner: str, shape: Sequence[Size], scale: str, shift: str
    ) -> str:
        """``scale * xhat + shift`` for ``inner``, which is ``x`` in the type of ``wide``; constants (C,)."""
        is_half = self._w.dtype != wide.dtype
        z = wide.op("Neg", (inner,)) if not is_half else inner
        read = inner if not is_half else wide.cast(self._w.op("Neg", (self._x,)), self._w.dtype, wide.dtype)
        size = _size(spec, shape)
        is_small = size is not None and size <= ONE_BLOCK
        mean, variance = (_by_group if is_small else _by_channel)(wide, spec, z)
        grouped = wide.constant(np.array([1, spec.groups, -1], np.int64))
        column = wide.constant(np.array([0, spec.channels, 1, 1], np.int64))
        spread = wide.constant(np.array([1, spec.groups, spec.channels // spec.groups], np.int64))
        sigma = _sigma(wide, spec, variance, size)
        # What the gate reads is x in float32 and -x in half precision.
        signed = wide.op("Neg", (sigma,)) if is_half else sigma
        slope = wide.op("Div", (wide.op("Reshape", (scale, grouped)), signed))
        centred = wide.op("Add", (read, wide.op("Reshape", (wide.op("Expand", (mean, spread)), column))))
        offset = wide.op("Reshape", (shift, wide.constant(np.array([-1, 1, 1], np.int64))))
        return wide.op("Add", (wide.op("Mul", (centred, wide.op("Reshape", (slope, column)))), offset))


def _by_group(w: Writer, spec: SRUSpec, z: str) -> tuple[str, str]:
    """``mean(z)`` and the variance, each (N, groups, 1), from the flat group."""
    last = w.constant(np.array([2], np.int64))
    flat = w.op("Reshape", (z, w.constant(np.array([0, spec.groups, -1], np.int64))))
    mean = w.op("ReduceMean", (flat, last), keepdims=1)
    centred = w.op("Sub", (flat, mean))
    return mean, w.op("ReduceMean", (w.op("Mul", (centred, centred)), last), keepdims=1)


def _by_channel(w: Writer, spec: SRUSpec, z: str) -> tuple[str, str]:
    """``mean(z)`` and the variance, each (N, groups, 1), from every channel's own moments."""
    plane, last = w.constant(np.array([2, 3], np.int64)), w.constant(np.array([2], np.int64))
    cut = w.constant(np.array([0, spec.groups, spec.channels // spec.groups], np.int64))
    own = w.op("ReduceMean", (z, plane), keepdims=1)
    centred = w.op("Sub", (z, own))
    within = w.op("Reshape", (w.op("ReduceMean", (w.op("Mul", (centred, centred)), plane), keepdims=1), cut))
    means = w.op("Reshape", (own, cut))
    mean = w.op("ReduceMean", (means, last), keepdims=1)
    apart = w.op("Sub", (means, mean))
    total = w.op("Add", (within, w.op("Mul", (apart, apart))))
    return mean, w.op("ReduceMean", (total, last), keepdims=1)


def _sigma(w: Writer, spec: SRUSpec, variance: str, size: int | None) -> str:
    eps = w.scalar(spec.eps)
    if spec.norm is Norm.GROUP_NORM:
        return w.op("Sqrt", (w.op("Add", (variance, eps)),))
    if size is None:
        raise ValueError("the unbiased deviation needs the number of values in a group")
    unbiased = w.op("Mul", (variance, w.scalar(size / (size - 1))))
    return w.op("Add", (w.op("Sqrt", (unbiased,)), eps))


def _size(spec: SRUSpec, shape: Sequence[Size]) -> int | None:
    """Values per group; None where the height or width is free."""
    height, width = shape[2], shape[3]
    if isinstance(height, int) and isinstance(width, int):
        return spec.channels // spec.groups * height * width
    return None
