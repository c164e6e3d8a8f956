"""CRU -> ONNX operators in the form TensorRT makes the fewest kernels of; the function of ``emit``'s standard form.

* Convolutions merged as :mod:`~scconv_deploy.scconv.merged` says; what cannot be merged is written as it stands.
* One reduction pools Y1 and Y2 together (a Concat of two tensors costs nothing inside a kernel), and its Softmax
  works on (N, 2C) without the spatial axes: with them the builder needs two kernels for it.
* In float32 the pooled tensor is ``-mean(-y)``, every bit as before: a reduction that is the first operator to read
  a channels-last tensor gets a planar copy of it written to memory, one behind any other operator does not. In half
  precision the Cast is that operator. (15 layout transposes became 2, 281.0 MB became 240.9.)

Pooling, softmax and the BatchNorm's scale
are float32 where the activations are fp16 or bf16, as in every form. Twins: ``tests/scconv/test_emit_merged.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from scconv_deploy.scconv.deploy_cru import can_merge_y2
from scconv_deploy.scconv.emit_fused import emit_fused_fuse, fuses_mix
from scconv_deploy.scconv.emit_sru import HALF_TYPES
from scconv_deploy.scconv.merged import AS_WRITTEN, TWO, merged_convolutions, merges
from scconv_deploy.scconv.spec import ConvSpec, CRUSpec, Fuse, Y2Order
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Writer


def takes_merged(spec: CRUSpec, style: GraphStyle) -> bool:
    """Whether the form is asked for and the constants are stored for it.

    A CRU that cannot be merged is pooled here, too, unless its Y2 was stored as one convolution.
    """
    stored = merges(spec, style.cru_convolutions) < AS_WRITTEN or not (style.merged_y2 and can_merge_y2(spec))
    return style.cru_convolutions < AS_WRITTEN and stored


def emit_merged_cru(
    w: Writer,
    spec: CRUSpec,
    style: GraphStyle,
    named: Mapping[str, str],
    pieces: tuple[str, str],
    out: str | None,
) -> str:
    """Write equations 6 to 9 for the pieces (up, low); returns the output's name."""
    count = merges(spec, style.cru_convolutions)
    if count == TWO:
        shapes = merged_convolutions(spec, TWO)
        squeezed = conv(w, "squeeze", shapes["squeeze"], named, w.op("Concat", pieces, axis=1))
        whole = conv(w, "y", shapes["y"], named, squeezed)
        y1, y2 = w.split(whole, (spec.c_out, spec.c_out))
        if fuses_mix(style, w.dtype):
            return emit_fused_fuse(w, spec, named, (y1, y2), out)
    else:
        y1, y2, parts = _transformed(w, spec, named, pieces, count)
        if fuses_mix(style, w.dtype):  # which reads the pieces where they are
            return emit_fused_fuse(w, spec, named, (y1, y2), out)
        whole = w.op("Concat", parts, axis=1)
    return weighted_sum(w, named, (y1, y2), _weights(w, spec, named, whole), out)


def conv(w: Writer, role: str, spec: ConvSpec, named: Mapping[str, str], x: str) -> str:
    """One convolution of the CRU; the constants' names say whether it has a bias."""
    inputs = [x, named[f"cru.{role}.weight"]]
    if f"cru.{role}.bias" in named:
        inputs.append(named[f"cru.{role}.bias"])
    return w.inside(role).op(
        "Conv",
        inputs,
        kernel_shape=list(spec.kernel),
        strides=list(spec.stride),
        pads=[*spec.padding, *spec.padding],
        dilations=list(spec.dilation),
        group=spec.groups,
    )


def weighted_sum(
    w: Writer, named: Mapping[str, str], y: tuple[str, str], weights: tuple[str, str], out: str | None
) -> str:
    """Equation 9: each of Y1 and Y2 times its weights, added; and the shift of a BatchNorm that was folded in."""
    terms = (w.op("Mul", (y[0], weights[0])), w.op("Mul", (y[1], weights[1])))
    shift = named.get("cru.post_shift")
    if shift is None:
        return w.op("Add", terms, out=out)
    return w.op("Add", (w.op("Add", terms), shift), out=out)


def pair_softmax(w: Writer, pooled: tuple[str, str]) -> tuple[str, str]:
    """Per channel, ``softmax(q1, q2) = (sigmoid(q1 - q2), sigmoid(q2 - q1))``."""
    forth, back = w.op("Sub", pooled), w.op("Sub", pooled[::-1])
    return w.op("Sigmoid", (forth,)), w.op("Sigmoid", (back,))


def _transformed(
    w: Writer, spec: CRUSpec, named: Mapping[str, str], pieces: tuple[str, str], count: int
) -> tuple[str, str, Sequence[str]]:
    """Y1, Y2 and the pieces that, put together, are [Y1; Y2]."""
    up = conv(w, "squeeze_up", spec.squeeze_up, named, pieces[0])
    if count < AS_WRITTEN:
        shapes = merged_convolutions(spec, count)
        y1, y2 = conv(w, "y1", shapes["y1"], named, up), conv(w, "y2", shapes["y2"], named, pieces[1])
        return y1, y2, (y1, y2)
    low = conv(w, "squeeze_low", spec.squeeze_low, named, pieces[1])
    y1 = w.op("Add", (conv(w, "gwc", spec.gwc, named, up), conv(w, "pwc1", spec.pwc1, named, up)))
    mixed = conv(w, "y2", spec.pwc2, named, low)
    if spec.y2_order is Y2Order.PWC2_ONLY:
        return y1, mixed, (y1, mixed)
    parts = (mixed, low) if spec.y2_order is Y2Order.PWC2_LOW else (low, mixed)
    return y1, w.op("Concat", parts, axis=1), (y1, *parts)


def _weights(w: Writer, spec: CRUSpec, named: Mapping[str, str], whole: str) -> tuple[str, str]:
    """The weights of Y1 and Y2 in the sum, (N, C, 1, 1) each, from [Y1; Y2]."""
    is_half = w.dtype in HALF_TYPES
    wide = w.typed(int(onnx.TensorProto.FLOAT)) if is_half else w
    axes = wide.constant(np.array([2, 3], np.int64))
    read = wide.cast(whole, w.dtype, wide.dtype) if is_half else wide.op("Neg", (whole,))
    pooled = wide.op("ReduceMean", (read, axes), keepdims=0)
    pooled = pooled if is_half else wide.op("Neg", (pooled,))
    if spec.fuse is Fuse.PAIR:
        opened = pair_softmax(wide, wide.split(pooled, (spec.c_out, spec.c_out)))
    else:
        opened = wide.split(wide.op("Softmax", (pooled,), axis=1), (spec.c_out, spec.c_out))
    scale = named.get("cru.post_scale")
    columns = [wide.op("Unsqueeze", (value, axes)) for value in opened]
    if scale is not None:
        columns = [wide.op("Mul", (value, scale)) for value in columns]
    first, second = (wide.cast(value, wide.dtype, w.dtype) for value in columns)
    return first, second
