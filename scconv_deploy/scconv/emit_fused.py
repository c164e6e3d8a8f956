"""SRU and the fuse as one operator each (:mod:`~scconv_deploy.scconv.fused_ops`); the convolutions stay.

A block becomes ``scconv::SRU_* -> squeezes -> GWC, PWC1, Add and Y2 -> scconv::CRUFuse_*``: SRU and fuse are a
dozen passes over memory in standard operators, and two or three in a kernel that keeps a sample in cache.

Written in the standard form instead: bfloat16 (ONNX Runtime has no convolution for it on CPU) but
in a style that says ``fused_bf16``, an SRU whose
threshold lies outside (0, 1), so that its mask is a constant, and the gate in half precision or as a literal
sigmoid, which are other functions. Twins: ``tests/scconv/test_emit_fused.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from scconv_deploy.scconv.constants import gate_logit
from scconv_deploy.scconv.fused_ops import DOMAIN, fuse_operator, sru_operator
from scconv_deploy.scconv.spec import CRUSpec, Gate, Gated, SRUSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Writer

FLOAT = int(onnx.TensorProto.FLOAT)
TYPES = (FLOAT, int(onnx.TensorProto.FLOAT16))


def fuses_mix(style: GraphStyle, dtype: int) -> bool:
    """Whether the fuse is written as one operator."""
    return style.fused and _has_kernel(style, dtype)


def fuses_sru(spec: SRUSpec, style: GraphStyle, dtype: int) -> bool:
    """Whether the SRU is written as one operator."""
    has_logit = spec.gate is Gate.STATIC or not isinstance(gate_logit(spec.threshold), bool)
    exact = not (style.gate_in_half or style.literal_gate)
    return style.fused and _has_kernel(style, dtype) and has_logit and exact


def _has_kernel(style: GraphStyle, dtype: int) -> bool:
    return dtype in TYPES or (style.fused_bf16 and dtype == onnx.TensorProto.BFLOAT16)


def emit_fused_sru(w: Writer, spec: SRUSpec, named: Mapping[str, str], x: str) -> tuple[str, str]:
    """Write the unit; returns the names of the halves (y_a, y_b), each (N, C/2, H, W)."""
    inputs = [x]
    if spec.gated is Gated.NORMALISED:
        inputs += [named["sru.gamma"], named["sru.beta"], named["sru.weight"]]
    else:
        inputs += [named["sru.gate_scale"], named["sru.gate_shift"]]
    attributes = {"groups": spec.groups, "epsilon": spec.eps}
    if spec.gate is Gate.STATIC:
        # The mask is stored in the activations' type, the gate's other constants in float32.
        inputs.append(w.cast(named["sru.mask"], w.dtype, FLOAT))
    else:
        attributes["logit"] = float(gate_logit(spec.threshold))
    return w.pair(sru_operator(spec), inputs, domain=DOMAIN, **attributes)


def emit_fused_fuse(
    w: Writer, spec: CRUSpec, named: Mapping[str, str], y: tuple[str, str], out: str | None
) -> str:
    """Write equations 7 to 9 for (Y1, Y2), each (N, C_out, H', W'); returns the name of the output."""
    inputs = list(y)
    scale, shift = named.get("cru.post_scale"), named.get("cru.post_shift")
    is_affine = scale is not None and shift is not None
    if scale is not None and shift is not None:
        inputs += [scale, w.cast(shift, w.dtype, FLOAT)]
    return w.op(fuse_operator(spec, is_affine), inputs, out=out, domain=DOMAIN)
