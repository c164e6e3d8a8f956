"""A block's plan and constants -> ONNX operators: the standard form of an SCConv block.

Written out here, rather than traced from PyTorch, because tracing records about sixty nodes per block and
spends minutes optimising them away again; and because the exact form per target is this product's business.
It mirrors :class:`~scconv_deploy.scconv.deploy.DeploySCConv` operator by operator, and every export compares
the two (teacher-forced, against the user's own module).

Operators used, with the opset that defines the version: Add, Mul, Sub, Max, Div, Sqrt, Sigmoid, Cast (13);
Greater, GreaterOrEqual (13, 16); Reshape (14); InstanceNormalization (6); ReduceMean, ReduceSum, Split (18,
13, 18); Conv (11); Concat, Softmax, Unsqueeze (13); Where (16); Shape, Slice. Opset 18 and
later are all valid.
All take fp16, and bf16 from opset 22 on.
InstanceNormalization over ``(N, groups, -1)`` is GroupNormalization without its opset-21 form, which
ONNX Runtime has no CPU kernel for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from scconv_deploy.scconv.dense_y1 import dense_y1, takes_dense_y1
from scconv_deploy.scconv.deploy_cru import can_merge_y2
from scconv_deploy.scconv.emit_fused import emit_fused_fuse, emit_fused_sru, fuses_mix, fuses_sru
from scconv_deploy.scconv.emit_merged import (
    conv,
    emit_merged_cru,
    pair_softmax,
    takes_merged,
    weighted_sum,
)
from scconv_deploy.scconv.emit_sru import HALF_TYPES, emit_sru
from scconv_deploy.scconv.operator import BlockPlan
from scconv_deploy.scconv.spec import ConvSpec, CRUSpec, Fuse, Order, SCConvSpec, SRUSpec, Y2Order
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size, Writer


def can_emit(spec: SCConvSpec) -> bool:
    """Whether every convolution pads with zeros; other modes are traced through PyTorch instead."""
    if spec.cru is None:
        return True
    c = spec.cru
    return all(k.padding_mode == "zeros" for k in (c.squeeze_up, c.squeeze_low, c.gwc, c.pwc1, c.pwc2))


def emit_block(
    plan: BlockPlan,
    x: str,
    out: str,
    constants: Sequence[str],
    path: str,
    shape: Sequence[Size],
    dtype: int,
    call: int = 0,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Write one block.

    Args:
        plan: specification, style and the constants' names.
        x: name of the input value, (N, C_in, H, W); ``out``: name of the output value.
        constants: names of the initializers, in the plan's order.
        path: module path that node names begin with.
        shape: of ``x``; a number where it is known, else a symbol.
        dtype: ONNX element type of ``x`` and of the convolutions' constants. Where it is FLOAT16 or BFLOAT16, the
            gate's constants (but in a style that has the gate in half precision) and the fuse's ``post_scale``
            are FLOAT.
        call: number that is different for every block written into one graph; a module may be called twice.

    Returns:
        Nodes in topological order, and the small constants they need beside the block's own.
    """
    writer = Writer(path, dtype, call)
    named = dict(zip(plan.constants, constants, strict=True))
    spec, style = plan.spec, plan.style
    if spec.sru is None:
        _cru_whole(writer, spec, style, named, x, out)
    elif spec.cru is None:
        halves = _emit_sru(writer.inside("sru"), spec.sru, style, named, x, shape)
        writer.op("Concat", halves, out=out, axis=1)
    elif spec.order is Order.CRU_SRU:
        # The CRU's output has its own height and width; only its channel count is known here.
        middle = _cru_whole(writer, spec, style, named, x, None)
        between = _after_cru(spec.cru, shape)
        halves = _emit_sru(writer.inside("sru"), spec.sru, style, named, middle, between)
        writer.op("Concat", halves, out=out, axis=1)
    else:
        up, low = _emit_sru(writer.inside("sru"), spec.sru, style, named, x, shape)
        if spec.cru.up == spec.sru.channels // 2:
            _emit_cru(writer.inside("cru"), spec.cru, style, named, (up, low), out)
        else:
            whole = writer.op("Concat", (up, low), axis=1)
            _cru_whole(writer, spec, style, named, whole, out)
    return writer.nodes, list(writer.tensors.values())


def _after_cru(spec: CRUSpec, shape: Sequence[Size]) -> list[Size]:
    sizes: list[Size] = []
    for axis, size in enumerate(shape[2:]):
        for window in (spec.squeeze_up, spec.gwc):
            if isinstance(size, int):
                reach = window.dilation[axis] * (window.kernel[axis] - 1)
                size = (size + 2 * window.padding[axis] - reach - 1) // window.stride[axis] + 1
        sizes.append(size)
    return [shape[0], spec.c_out, *sizes]


def _emit_sru(
    w: Writer, spec: SRUSpec, style: GraphStyle, named: Mapping[str, str], x: str, shape: Sequence[Size]
) -> tuple[str, str]:
    if fuses_sru(spec, style, w.dtype):
        return emit_fused_sru(w, spec, named, x)
    return emit_sru(w, spec, style, named, x, shape)


def _cru_whole(
    writer: Writer, spec: SCConvSpec, style: GraphStyle, named: Mapping[str, str], x: str, out: str | None
) -> str:
    if spec.cru is None:
        raise ValueError("this block has no CRU")
    inner = writer.inside("cru")
    pieces = inner.split(x, (spec.cru.up, spec.cru.low))
    return _emit_cru(inner, spec.cru, style, named, pieces, out)


def _emit_cru(
    w: Writer,
    spec: CRUSpec,
    style: GraphStyle,
    named: Mapping[str, str],
    pieces: tuple[str, str],
    out: str | None,
) -> str:
    """Equations 6 to 9 for the pieces (up, low)."""
    if takes_merged(spec, style):
        return emit_merged_cru(w, spec, style, named, pieces, out)
    up = conv(w, "squeeze_up", spec.squeeze_up, named, pieces[0])
    low = conv(w, "squeeze_low", spec.squeeze_low, named, pieces[1])
    if takes_dense_y1(spec, style):
        y1 = conv(w, "y1", dense_y1(spec), named, up)
    else:
        wide = conv(w, "gwc", spec.gwc, named, up)
        y1 = w.op("Add", (wide, conv(w, "pwc1", spec.pwc1, named, up)))
    merged = style.merged_y2 and can_merge_y2(spec)
    y2 = conv(w, "y2", ConvSpec(spec.pwc2.c_in, spec.c_out) if merged else spec.pwc2, named, low)
    parts: tuple[str, ...] = (y2,)
    if not merged and spec.y2_order is not Y2Order.PWC2_ONLY:
        parts = (y2, low) if spec.y2_order is Y2Order.PWC2_LOW else (low, y2)
        y2 = w.op("Concat", parts, axis=1)
    if fuses_mix(style, w.dtype):
        return emit_fused_fuse(w, spec, named, (y1, y2), out)
    if spec.fuse is Fuse.JOINT and style.concat_fuse:
        weights = _concat_weights(w, spec, named, (y1, *parts))
    else:
        weights = _weights(w, spec, named, (y1, y2))
    return weighted_sum(w, named, (y1, y2), weights, out)


def _weights(w: Writer, spec: CRUSpec, named: Mapping[str, str], y: tuple[str, str]) -> tuple[str, str]:
    """Pool Y1 and Y2 apart; only their (N, C, 1, 1) means are concatenated."""
    wide = w.typed(_fuse_type(w.dtype))
    pooled = (_pool(w, wide, y[0]), _pool(w, wide, y[1]))
    if spec.fuse is Fuse.PAIR:
        first, second = pair_softmax(wide, pooled)
    else:
        p = wide.op("Softmax", (wide.op("Concat", pooled, axis=1),), axis=1)
        first, second = wide.split(p, (spec.c_out, spec.c_out))
    scale = named.get("cru.post_scale")
    if scale is not None:
        first, second = wide.op("Mul", (first, scale)), wide.op("Mul", (second, scale))
    return wide.cast(first, wide.dtype, w.dtype), wide.cast(second, wide.dtype, w.dtype)


def _concat_weights(
    w: Writer, spec: CRUSpec, named: Mapping[str, str], parts: Sequence[str]
) -> tuple[str, str]:
    """Pool one Concat of all parts of Y1 and Y2 (one kernel in TensorRT); Y itself stays in pieces."""
    wide = w.typed(_fuse_type(w.dtype))
    axes = wide.constant(np.array([2, 3], np.int64))
    whole = wide.cast(w.op("Concat", parts, axis=1), w.dtype, wide.dtype)
    pooled = wide.op("ReduceMean", (whole, axes), keepdims=0)
    p = wide.op("Unsqueeze", (wide.op("Softmax", (pooled,), axis=1), axes))
    scale = named.get("cru.post_scale")
    if scale is not None:
        p = wide.op("Mul", (p, wide.op("Concat", (scale, scale), axis=0)))
    return w.split(wide.cast(p, wide.dtype, w.dtype), (spec.c_out, spec.c_out))


def _fuse_type(dtype: int) -> int:
    """Element type of pooling and softmax: float32 where the activations are fp16 or bf16."""
    return int(onnx.TensorProto.FLOAT) if dtype in HALF_TYPES else dtype


def _pool(w: Writer, wide: Writer, y: str) -> str:
    axes = wide.constant(np.array([2, 3], np.int64))
    return wide.op("ReduceMean", (wide.cast(y, w.dtype, wide.dtype), axes), keepdims=1)
