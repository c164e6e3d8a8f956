"""A specification -> its normal form: specifications with equal normal forms compute the same function.

The probes cannot tell such specifications apart, and need not; each rule carries its proof.
"""

from __future__ import annotations

from dataclasses import replace

from scconv_deploy.scconv.constants import gate_logit
from scconv_deploy.scconv.spec import (
    Comparison,
    ConvSpec,
    CRUSpec,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    SCConvSpec,
    SRUSpec,
)

_POSITIVE = (GammaWeight.SOFTMAX, GammaWeight.NONE)


def proved_equal(one: SCConvSpec, other: SCConvSpec) -> bool:
    """Whether both compute the same function for all weights with a finite, nonzero sum of |gamma|."""
    return normal_form(one) == normal_form(other)


def normal_form(spec: SCConvSpec) -> SCConvSpec:
    """Replace every axis value that cannot influence the output by one representative."""
    return replace(
        spec,
        sru=None if spec.sru is None else _sru(spec.sru),
        cru=None if spec.cru is None else _cru(spec.cru),
    )


def _sru(s: SRUSpec) -> SRUSpec:
    if s.gamma_weight in _POSITIVE:
        s = replace(s, weight_eps=0.0, weight_clamp=None)  # these weights have no denominator to guard
    if (
        s.gamma_weight is GammaWeight.ABS_SUM
        and s.weight_clamp is not None
        and s.weight_clamp <= s.weight_eps
    ):
        s = replace(s, weight_clamp=None)  # an absolute sum plus eps is never below eps
    if s.gate is Gate.STATIC and s.gamma_weight is GammaWeight.STORED:
        return replace(s, comparison=Comparison.GT, threshold=0.5)  # the mask is stored: nothing is compared
    if s.gate is Gate.STATIC:
        return _static(s)
    logit = gate_logit(s.threshold)
    if isinstance(logit, bool):
        # The mask is constant, so strictness is not asked; a hard gate then does not look at s at all.
        s = replace(s, comparison=Comparison.GT, threshold=0.0 if logit else 1.0)
        if s.gate is Gate.HARD:
            s = replace(s, gamma_weight=GammaWeight.NONE, weight_eps=0.0, weight_clamp=None)
            if s.gated is Gated.INPUT:
                s = replace(s, norm=Norm.GROUP_NORM, groups=1, eps=0.0)
        return s
    if logit == 0.0 and s.gate is Gate.HARD:
        # Only the sign of s = w n decides, and a positive factor does not change it.
        if s.gamma_weight is GammaWeight.SOFTMAX:
            s = replace(s, gamma_weight=GammaWeight.NONE)
        if s.weight_clamp is not None and s.weight_clamp > 0.0:
            s = replace(s, gamma_weight=GammaWeight.ABS_SUM)  # a denominator clamped above 0 is positive
        if s.gamma_weight is GammaWeight.ABS_SUM:
            s = replace(s, weight_eps=0.0, weight_clamp=None)
    if logit == 0.0 and s.gated is Gated.NORMALISED and s.gamma_weight in _POSITIVE:
        # s = w n = 0 with w > 0 means n = 0, and n is what is gated: 0 on either side.
        s = replace(s, comparison=Comparison.GT)
    return s


def _static(s: SRUSpec) -> SRUSpec:
    always = {GammaWeight.SOFTMAX: 0.0 < s.threshold < 1.0, GammaWeight.NONE: s.threshold == 1.0}
    if always.get(s.gamma_weight, True):
        return s
    # A softmax lies strictly inside (0, 1) and the weight "none" is 1: the mask is constant.
    below = s.threshold <= 0.0 if s.gamma_weight is GammaWeight.SOFTMAX else s.threshold < 1.0
    return replace(s, comparison=Comparison.GT, threshold=0.0 if below else 2.0)


def _cru(c: CRUSpec) -> CRUSpec:
    return replace(
        c,
        squeeze_up=_conv(c.squeeze_up),
        squeeze_low=_conv(c.squeeze_low),
        gwc=_conv(c.gwc),
        pwc1=_conv(c.pwc1),
        pwc2=_conv(c.pwc2),
    )


def _conv(c: ConvSpec) -> ConvSpec:
    """Padding by nothing has no mode; a kernel of one has no dilation."""
    mode = "zeros" if c.padding == (0, 0) else c.padding_mode
    return replace(c, padding_mode=mode, dilation=(1, 1) if c.kernel == (1, 1) else c.dilation)
