"""CRU's five convolutions -> three or two that compute the same (Y1, Y2); every merged weight is exact algebra.

With ``up' = S_up * up`` and ``low' = S_low * low`` (equations 6 to 8; * is a convolution):

* Three: ``Y1 = D * up'``. GWC is written as a dense kernel D (zero between groups), and PWC1, which reads one
  position, is added to the tap of D that reads the same position. Then ``Y2 = K * low`` with
  ``K = [PWC2 S_low; S_low]``: a 1x1 convolution behind a convolution only mixes its output channels, so it is
  multiplied into them (bias: ``PWC2 b + c``), and ``low'`` itself is S_low's rows.
* Two: the squeezes as one convolution in two groups, ``[up'; low'] = S * [up; low]``, and ``[Y1; Y2]`` as one in
  two groups: D for Y1, and for Y2 a kernel that is zero but at the tap that reads the position itself.

Preconditions, else fewer are merged: all padding is with zeros; PWC1 is 1x1 without padding, has GWC's stride, and
GWC has a tap on that position (``padding`` a multiple of ``dilation``); PWC2 keeps positions one to one (1x1, stride
1). For two: equal halves, squeezes of one geometry without groups, as many channels up' as low', a GWC of stride 1.

Cost, in multiply-adds per position with C channels, alpha = 1/2, r = 2 and two groups: 1.8 C^2 as written, 2.9 with
three, 4.75 with two (a dense 3x3 convolution has 9). Weights are multiplied in float64 and rounded once.
Twins: ``tests/scconv/test_merged.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from scconv_deploy.scconv.spec import ConvSpec, CRUSpec, Y2Order

AS_WRITTEN, THREE, TWO = 5, 3, 2


def merges(spec: CRUSpec, wanted: int) -> int:
    """How many convolutions a style that wants ``wanted`` gets for this CRU: 5, 3 or 2."""
    if wanted <= TWO and _can_be_three(spec) and _can_be_two(spec):
        return TWO
    return THREE if wanted <= THREE and _can_be_three(spec) else AS_WRITTEN


def merged_convolutions(spec: CRUSpec, count: int) -> dict[str, ConvSpec]:
    """Role -> geometry: ``squeeze_up``, ``y1``, ``y2`` for three; ``squeeze``, ``y`` for two (biases: none said)."""
    gwc, up, low = spec.gwc, spec.squeeze_up, spec.squeeze_low
    shape = (gwc.kernel, gwc.stride, gwc.padding, gwc.dilation)
    if count == THREE:
        return {
            "squeeze_up": up,
            "y1": ConvSpec(gwc.c_in, spec.c_out, *shape),
            "y2": ConvSpec(low.c_in, spec.c_out, low.kernel, low.stride, low.padding, low.dilation),
        }
    squeeze = ConvSpec(spec.c_in, 2 * up.c_out, up.kernel, up.stride, up.padding, up.dilation, groups=2)
    return {"squeeze": squeeze, "y": ConvSpec(2 * up.c_out, 2 * spec.c_out, *shape, groups=2)}


def merged_weights(spec: CRUSpec, weights: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """``<role>.weight`` and, where any merged part has one, ``<role>.bias``, in the dtype of ``weights``.

    Args:
        spec: a CRU for which :func:`merges` gives ``count``.
        weights: of the five convolutions, as ``torch.nn.Conv2d`` stores them, by role.
        count: 3 or 2.
    """
    kernel, bias = summed_y1(spec, weights)
    if count == THREE:
        y2, y2_bias = _composed_y2(spec, weights)
        made = {
            "squeeze_up.weight": weights["squeeze_up.weight"].double(),
            "squeeze_up.bias": _bias(weights, "squeeze_up"),
            "y1.weight": kernel,
            "y1.bias": bias,
            "y2.weight": y2,
            "y2.bias": y2_bias,
        }
    else:
        y2, y2_bias = _centred_y2(spec, weights)
        squeezes = [weights[f"{role}.weight"].double() for role in ("squeeze_up", "squeeze_low")]
        made = {
            "squeeze.weight": torch.cat(squeezes),
            "squeeze.bias": _stacked(
                _bias(weights, "squeeze_up"), _bias(weights, "squeeze_low"), len(squeezes[0])
            ),
            "y.weight": torch.cat([kernel, y2]),
            "y.bias": _stacked(bias, y2_bias, spec.c_out),
        }
    dtype = weights["gwc.weight"].dtype
    return {name: value.to(dtype) for name, value in made.items() if value is not None}


def ungrouped(weight: Tensor, groups: int) -> Tensor:
    """A grouped kernel (C_out, C_in/groups, kh, kw) as the dense one (C_out, C_in, kh, kw): zero between groups."""
    if groups == 1:
        return weight
    c_out, per_group = weight.shape[:2]
    dense = weight.new_zeros(c_out, per_group * groups, *weight.shape[2:])
    rows = c_out // groups
    for g in range(groups):
        mine = slice(g * rows, (g + 1) * rows)
        dense[mine, g * per_group : (g + 1) * per_group] = weight[mine]
    return dense


def _can_be_three(spec: CRUSpec) -> bool:
    convolutions = (spec.squeeze_up, spec.squeeze_low, spec.gwc, spec.pwc1, spec.pwc2)
    zero_padded = all(c.padding_mode == "zeros" for c in convolutions)
    return zero_padded and centre_tap(spec) is not None and _keeps_positions(spec.pwc2)


def _can_be_two(spec: CRUSpec) -> bool:
    up, low = spec.squeeze_up, spec.squeeze_low
    alike = (up.c_in, up.c_out, up.kernel, up.stride, up.padding, up.dilation) == (
        (low.c_in, low.c_out, low.kernel, low.stride, low.padding, low.dilation)
    )
    return alike and up.groups == low.groups == 1 and spec.gwc.stride == (1, 1)


def _keeps_positions(conv: ConvSpec) -> bool:
    return conv.kernel == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)


def centre_tap(spec: CRUSpec) -> tuple[int, int] | None:
    """The tap of GWC that reads the position PWC1 reads; None where there is none."""
    gwc, pwc1 = spec.gwc, spec.pwc1
    if pwc1.kernel != (1, 1) or pwc1.padding != (0, 0) or pwc1.stride != gwc.stride:
        return None
    found = [p // d for p, d in zip(gwc.padding, gwc.dilation, strict=True)]
    exact = all(p % d == 0 for p, d in zip(gwc.padding, gwc.dilation, strict=True))
    inside = all(tap < extent for tap, extent in zip(found, gwc.kernel, strict=True))
    return (found[0], found[1]) if exact and inside else None


def summed_y1(spec: CRUSpec, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The dense kernel D (C_out, C_in, kh, kw) of Y1 and its bias (C_out,) or None, both in float64.

    Raises:
        ValueError: no tap of GWC reads the position that PWC1 reads.
    """
    tap = centre_tap(spec)
    if tap is None:
        raise ValueError("PWC1 reads a position that no tap of this GWC reads")
    kernel = ungrouped(weights["gwc.weight"].double(), spec.gwc.groups).clone()
    kernel[:, :, tap[0], tap[1]] += ungrouped(weights["pwc1.weight"].double(), spec.pwc1.groups)[:, :, 0, 0]
    biases = [b for b in (_bias(weights, "gwc"), _bias(weights, "pwc1")) if b is not None]
    return kernel, sum(biases[1:], biases[0]) if biases else None


def _composed_y2(spec: CRUSpec, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """``[PWC2 S_low; S_low]`` in the specification's order, as one kernel of ``low``."""
    squeeze = ungrouped(weights["squeeze_low.weight"].double(), spec.squeeze_low.groups)
    pwc2 = ungrouped(weights["pwc2.weight"].double(), spec.pwc2.groups)[:, :, 0, 0]
    bias, own = _bias(weights, "squeeze_low"), _bias(weights, "pwc2")
    kernel = torch.einsum("om,mihw->oihw", pwc2, squeeze)
    mixed = own if bias is None else pwc2 @ bias if own is None else pwc2 @ bias + own
    stacked = _ordered(spec, kernel, squeeze)
    if spec.y2_order is Y2Order.PWC2_ONLY or (mixed is None and bias is None):
        return stacked, mixed
    return stacked, _ordered(
        spec,
        pwc2.new_zeros(len(pwc2)) if mixed is None else mixed,
        pwc2.new_zeros(len(squeeze)) if bias is None else bias,
    )


def _centred_y2(spec: CRUSpec, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """``[PWC2; I]`` of ``low'`` at the tap that reads the position itself, zero elsewhere."""
    pwc2 = ungrouped(weights["pwc2.weight"].double(), spec.pwc2.groups)[:, :, 0, 0]
    rows = _ordered(spec, pwc2, torch.eye(pwc2.shape[1], dtype=pwc2.dtype))
    tap = centre_tap(spec) or (0, 0)
    kernel = rows.new_zeros(*rows.shape, *spec.gwc.kernel)
    kernel[:, :, tap[0], tap[1]] = rows
    own = _bias(weights, "pwc2")
    return kernel, None if own is None else _ordered(spec, own, own.new_zeros(pwc2.shape[1]))


def _ordered(spec: CRUSpec, mixed: Tensor, low: Tensor) -> Tensor:
    if spec.y2_order is Y2Order.PWC2_ONLY:
        return mixed
    return torch.cat([mixed, low] if spec.y2_order is Y2Order.PWC2_LOW else [low, mixed])


def _bias(weights: Mapping[str, Tensor], role: str) -> Tensor | None:
    found = weights.get(f"{role}.bias")
    return None if found is None else found.double()


def _stacked(first: Tensor | None, second: Tensor | None, rows: int) -> Tensor | None:
    """Biases of two stacked convolutions of ``rows`` outputs each; a missing one is zero."""
    if first is None and second is None:
        return None
    zeros = torch.zeros(rows, dtype=torch.float64)
    return torch.cat([zeros if first is None else first, zeros if second is None else second])
