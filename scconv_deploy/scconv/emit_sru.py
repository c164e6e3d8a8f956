"""SRU -> ONNX operators: equations 1 to 5, the gate in one of the forms of ``deploy_sru``.

The derivations and preconditions stand there; this file writes the same forms operator by operator. Where
``x`` is fp16 or bf16, norm, logit and comparison are written between Casts in float32, unless the style has
the gate in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from scconv_deploy.scconv.constants import gate_logit
from scconv_deploy.scconv.deploy_sru import compares_sign, gate_is_half, keeps_norm_apart
from scconv_deploy.scconv.emit_centred import CentredNorm, takes_centred
from scconv_deploy.scconv.emit_moments import normalise_by_channel, takes_moments
from scconv_deploy.scconv.emit_shared import emit_shared, takes_shared
from scconv_deploy.scconv.spec import Comparison, Gate, Gated, Norm, Reconstruct, SRUSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size, Writer

NormWriter = Callable[[Writer, SRUSpec, str, Sequence[Size], str, str], str]
MANY = 2**18
"""Elements of a group from which on they are added up by rows."""

HALF_TYPES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def gate_type(dtype: int, spec: SRUSpec, style: GraphStyle) -> int:
    """ONNX element type of the gate's island where the activations are ``dtype``."""
    island = dtype in HALF_TYPES and not gate_is_half(spec, style)
    return int(onnx.TensorProto.FLOAT) if island else dtype


def emit_sru(
    w: Writer, spec: SRUSpec, style: GraphStyle, named: Mapping[str, str], x: str, shape: Sequence[Size]
) -> tuple[str, str]:
    """Write the unit; returns the names of the halves (y_a, y_b), each (N, C/2, H, W)."""
    wide = w.typed(gate_type(w.dtype, spec, style))
    compared, s, gated = _values(w, wide, spec, style, named, x, shape)
    if takes_shared(spec, style):
        return emit_shared(w, spec, *_soft_parts(w, wide, spec, style, (compared, s)), gated)
    kept, rest = _branches(w, wide, spec, style, named, (compared, s, gated))
    half = spec.channels // 2
    k_a, k_b = w.split(kept, (half, half))
    r_a, r_b = w.split(rest, (half, half))
    if spec.reconstruct is Reconstruct.CROSS:
        return w.op("Add", (k_a, r_b)), w.op("Add", (k_b, r_a))
    return w.op("Add", (k_a, k_b)), w.op("Add", (r_a, r_b))


def _values(
    w: Writer,
    wide: Writer,
    spec: SRUSpec,
    style: GraphStyle,
    named: Mapping[str, str],
    x: str,
    shape: Sequence[Size],
) -> tuple[str, str, str]:
    """What is compared with the logit, ``s``, and the gated tensor (in the activations' type)."""
    inner = wide.cast(x, w.dtype, wide.dtype)
    by_sign = compares_sign(spec, style)
    norm: NormWriter = normalise_by_channel if takes_moments(spec, style) else _normalise
    if takes_centred(spec, style, wide.dtype, shape):
        norm = CentredNorm(w, x)
    if keeps_norm_apart(spec, style):
        normal = norm(wide, spec, inner, shape, named["sru.gamma"], named["sru.beta"])
        s = wide.op("Mul", (normal, named["sru.weight"]))
        gated = wide.cast(normal, wide.dtype, w.dtype) if spec.gated is Gated.NORMALISED else x
        return (wide.op("Mul", (normal, named["sru.sign"])) if by_sign else s), s, gated
    value = norm(wide, spec, inner, shape, named["sru.gate_scale"], named["sru.gate_shift"])
    if by_sign and spec.gate is not Gate.HARD:
        return value, wide.op("Mul", (value, named["sru.magnitude"])), x
    return value, value, x


def _normalise(w: Writer, spec: SRUSpec, x: str, shape: Sequence[Size], scale: str, shift: str) -> str:
    """``scale * xhat + shift``; groups are cut from the flat (C*H*W) vector, as both norms do."""
    if spec.norm is Norm.GROUP_NORM:
        flat = w.op("Reshape", (x, w.constant(np.array([0, spec.groups, -1], np.int64))))
        ones, zeros = w.filled(1.0, spec.groups), w.filled(0.0, spec.groups)
        xhat = w.op("InstanceNormalization", (flat, ones, zeros), epsilon=spec.eps)
    else:
        xhat = _group_std(w, spec, x, shape)
    back = w.op("Reshape", (xhat, _image_shape(w, x, shape)))
    # The constants are stored as (C,); (C, 1, 1) broadcasts over height and width.
    column = w.constant(np.array([-1, 1, 1], np.int64))
    scaled = w.op("Mul", (back, w.op("Reshape", (scale, column))))
    return w.op("Add", (scaled, w.op("Reshape", (shift, column))))


def _group_std(w: Writer, spec: SRUSpec, x: str, shape: Sequence[Size]) -> str:
    """Unbiased standard deviation with eps outside the root; groups as (N, groups, M), or in rows of an image."""
    last = w.constant(np.array([2], np.int64))
    height, width = shape[2], shape[3]
    reduced, cut = [last], [0, spec.groups, -1]
    fixed = isinstance(height, int) and isinstance(width, int) and spec.channels % spec.groups == 0
    if fixed and spec.channels // spec.groups * int(height or 0) * int(width or 0) >= MANY:
        # Row by row, then over the rows: ONNX Runtime adds up in one float32 accumulator per lane, and a group of
        # 4x640x640 elements was off by more than rounding may explain. Every row has as many elements.
        reduced, cut = [w.constant(np.array([3], np.int64)), last], [0, spec.groups, -1, int(width or 0)]
    flat = w.op("Reshape", (x, w.constant(np.array(cut, np.int64))))
    mean = flat
    for axis in reduced:
        mean = w.op("ReduceMean", (mean, axis), keepdims=1)
    centred = w.op("Sub", (flat, mean))
    total = w.op("Mul", (centred, centred))
    for axis in reduced:
        total = w.op("ReduceSum", (total, axis), keepdims=1)
    if isinstance(height, int) and isinstance(width, int):
        count = w.scalar(spec.channels * height * width // spec.groups - 1)
    else:
        extent = w.op("Slice", (w.op("Shape", (flat,)), last, w.constant(np.array([3], np.int64))))
        count = w.op("Sub", (w.op("Cast", (extent,), to=w.dtype), w.scalar(1.0)))
    deviation = w.op("Sqrt", (w.op("Div", (total, count)),))
    return w.op("Div", (centred, w.op("Add", (deviation, w.scalar(spec.eps)))))


def _image_shape(w: Writer, x: str, shape: Sequence[Size]) -> str:
    """Target of the Reshape back: constant where at most one of height and width is free."""
    height, width = shape[2], shape[3]
    known = [s if isinstance(s, int) else -1 for s in (height, width)]
    if known.count(-1) <= 1 and isinstance(shape[1], int):
        return w.constant(np.array([0, shape[1], *known], np.int64))
    return w.op("Shape", (x,))


def _branches(
    w: Writer,
    wide: Writer,
    spec: SRUSpec,
    style: GraphStyle,
    named: Mapping[str, str],
    values: tuple[str, str, str],
) -> tuple[str, str]:
    compared, s, gated = values
    if spec.gate is Gate.STATIC:
        p = w.op("Mul", (_opened(w, wide, s), gated))
        kept = w.op("Mul", (named["sru.mask"], p))
        return kept, w.op("Sub", (p, kept))
    constant = gate_logit(spec.threshold)
    if isinstance(constant, bool) and not style.literal_gate:
        return _constant_branches(w, wide, spec, s, gated, constant)
    mask = _mask(wide, spec, style, compared)
    if spec.gate is Gate.HARD:
        if style.where_mask:
            zero = w.scalar(0.0)
            return w.op("Where", (mask, gated, zero)), w.op("Where", (mask, zero, gated))
        kept = w.op("Mul", (w.op("Cast", (mask,), to=w.dtype), gated))
        return kept, w.op("Sub", (gated, kept))
    first, second = _soft_weights(w, spec, style, mask, _opened(w, wide, s))
    return w.op("Mul", (first, gated)), w.op("Mul", (second, gated))


def _mask(wide: Writer, spec: SRUSpec, style: GraphStyle, compared: str) -> str:
    """The gate's comparison; its threshold's logit exists."""
    bound = spec.threshold if style.literal_gate else float(gate_logit(spec.threshold))
    if style.literal_gate:
        compared = wide.op("Sigmoid", (compared,))
    greater = "Greater" if spec.comparison is Comparison.GT else "GreaterOrEqual"
    return wide.op(greater, (compared, wide.scalar(bound)))


def _soft_parts(
    w: Writer, wide: Writer, spec: SRUSpec, style: GraphStyle, values: tuple[str, str]
) -> tuple[str, str]:
    """The mask as 0 or 1 and ``r``, both in the activations' type."""
    compared, s = values
    mask = w.op("Cast", (_mask(wide, spec, style, compared),), to=w.dtype)
    return mask, _opened(w, wide, s)


def _opened(w: Writer, wide: Writer, s: str) -> str:
    """``r = sigmoid(s)``, computed in the gate's type and rounded once."""
    return wide.cast(wide.op("Sigmoid", (s,)), wide.dtype, w.dtype)


def _soft_weights(w: Writer, spec: SRUSpec, style: GraphStyle, mask: str, r: str) -> tuple[str, str]:
    if style.where_mask:
        zero = w.scalar(0.0)
        first = w.op("Where", (mask, w.scalar(1.0), r))
        return first, w.op("Where", (mask, zero, r) if spec.gate is Gate.SOFT else (mask, r, zero))
    m = w.op("Cast", (mask,), to=w.dtype)
    first = w.op("Max", (r, m))
    return first, w.op("Sub", (first, m)) if spec.gate is Gate.SOFT else w.op("Mul", (r, m))


def _constant_branches(
    w: Writer, wide: Writer, spec: SRUSpec, s: str, gated: str, value: bool
) -> tuple[str, str]:
    """The threshold lies outside (0, 1): the mask is ``value`` everywhere."""
    nothing = w.op("Mul", (gated, w.scalar(0.0)))
    if spec.gate is Gate.HARD:
        return (gated, nothing) if value else (nothing, gated)
    part = w.op("Mul", (_opened(w, wide, s), gated))
    if spec.gate is Gate.SOFT:
        return (gated, nothing) if value else (part, part)
    return (gated, part) if value else (part, nothing)
