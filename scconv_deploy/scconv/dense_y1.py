"""GWC and PWC1 -> one dense convolution: ``Y1 = GWC(up') + PWC1(up') = D(up')``, exact in real arithmetic.

Both are linear in ``up'``. GWC is a dense kernel with zeros between its groups; PWC1 reads one position, so its
weight is added to the tap of that kernel that reads the same position, and the biases are added. Weights are
added in float64 and rounded once.

It trades multiply-adds (GWC's double with two groups) for one convolution and no Add. ONNX Runtime's blocked
convolutions need whole blocks (16 channels with AVX-512) in every group and compute narrower groups by im2col in
the planar layout: at 64x56x56, batch 8, two threads that took 1.69 ms of a block's 8.6. So the rule is
``channels per group < 16`` (``GraphStyle.dense_y1_below``): SCConv-ResNet-50 went from 0.937 to 0.928 of its plain
twin at (8, 2) and from 0.837 to 0.823 at (1, 1). Wider groups are left, since there the zeros cost time.

Preconditions, else the two convolutions stay: GWC has groups, PWC1 is 1x1 without padding and with GWC's stride,
and a tap of GWC reads its position (padding a multiple of dilation); both pad with zeros.
Twins: ``tests/scconv/test_dense_y1.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from scconv_deploy.scconv.merged import centre_tap, summed_y1
from scconv_deploy.scconv.spec import ConvSpec, CRUSpec
from scconv_deploy.scconv.style import GraphStyle

BLOCK = 16
"""Channels in a block of ONNX Runtime's layout on AVX-512; the widest there is."""


def takes_dense_y1(spec: CRUSpec, style: GraphStyle) -> bool:
    """Whether the style's rule asks for it and the preconditions hold."""
    return spec.gwc.c_in // spec.gwc.groups < style.dense_y1_below and _tap(spec) is not None


def dense_y1(spec: CRUSpec) -> ConvSpec:
    """Geometry of the dense convolution."""
    return replace(spec.gwc, groups=1, bias=spec.gwc.bias or spec.pwc1.bias)


def dense_y1_weights(spec: CRUSpec, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Kernel (C_out, C_in, kh, kw) and bias (C_out,) or None, in the dtype of GWC's weight.

    Args:
        spec: a CRU for which :func:`takes_dense_y1` holds.
        weights: ``gwc.weight``, ``pwc1.weight`` and biases, as ``torch.nn.Conv2d`` stores them.

    Raises:
        ValueError: no tap of GWC reads the position that PWC1 reads.
    """
    if _tap(spec) is None:
        raise ValueError("PWC1 reads a position that no tap of this GWC reads")
    kernel, bias = summed_y1(spec, {name: tensor.detach() for name, tensor in weights.items()})
    dtype = weights["gwc.weight"].dtype
    return kernel.to(dtype), None if bias is None else bias.to(dtype)


def _tap(spec: CRUSpec) -> tuple[int, int] | None:
    """The tap of GWC that reads the position PWC1 reads; None where a precondition fails."""
    if spec.gwc.groups == 1 or spec.gwc.padding_mode != "zeros":
        return None
    return centre_tap(spec)
