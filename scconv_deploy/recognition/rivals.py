"""A specification -> every specification one axis away from it (its rivals for the certificate)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from scconv_deploy.errors import InputError
from scconv_deploy.scconv.spec import (
    Comparison,
    CRUSpec,
    Fuse,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    Order,
    Reconstruct,
    SCConvSpec,
    SRUSpec,
    Y2Order,
)

T = TypeVar("T")

NUDGE = 1e-3
"""Relative change of eps and threshold that the probes must be able to see."""


def rivals(spec: SCConvSpec) -> Iterator[SCConvSpec]:
    """Every legal one-axis neighbour."""
    if spec.sru is not None:
        for sru in _sru_rivals(spec.sru):
            yield replace(spec, sru=sru)
    if spec.cru is not None:
        for cru in _cru_rivals(spec.cru):
            yield replace(spec, cru=cru)
    if spec.sru is not None and spec.cru is not None:
        other = Order.CRU_SRU if spec.order is Order.SRU_CRU else Order.SRU_CRU
        yield from _legal(partial(replace, spec, order=other))


def _sru_rivals(s: SRUSpec) -> Iterator[SRUSpec]:
    flipped = Comparison.GE if s.comparison is Comparison.GT else Comparison.GT
    yield replace(s, comparison=flipped)
    for gate in Gate:
        if gate is not s.gate:
            yield replace(s, gate=gate)
    for kind in GammaWeight:
        if kind not in (s.gamma_weight, GammaWeight.STORED):  # a stored weight is a tensor more
            yield replace(s, gamma_weight=kind, weight_eps=0.0, weight_clamp=None)
    if s.gamma_weight in (GammaWeight.SUM, GammaWeight.ABS_SUM):
        yield replace(s, weight_eps=0.0 if s.weight_eps else 1e-5)
        yield replace(s, weight_clamp=None if s.weight_clamp is not None else 1e-5)
    yield replace(s, gated=Gated.NORMALISED if s.gated is Gated.INPUT else Gated.INPUT)
    yield replace(
        s, reconstruct=Reconstruct.WITHIN if s.reconstruct is Reconstruct.CROSS else Reconstruct.CROSS
    )
    yield replace(s, eps=s.eps * (1.0 + NUDGE) if s.eps else 1e-12)
    yield replace(s, threshold=s.threshold + NUDGE * ((1.0 - s.threshold) or 1.0))
    norm = Norm.GROUP_STD if s.norm is Norm.GROUP_NORM else Norm.GROUP_NORM
    yield from _legal(partial(replace, s, norm=norm))
    for groups in (s.groups * 2, max(1, s.groups // 2)):
        if groups != s.groups:
            yield from _legal(partial(replace, s, groups=groups))


def _cru_rivals(c: CRUSpec) -> Iterator[CRUSpec]:
    yield replace(c, fuse=Fuse.PAIR if c.fuse is Fuse.JOINT else Fuse.JOINT)
    for order in Y2Order:
        if order is not c.y2_order:
            yield from _legal(partial(replace, c, y2_order=order))


def _legal(make: Callable[[], T]) -> Iterator[T]:
    """The neighbour, unless the specification itself refuses it."""
    try:
        made = make()
    except InputError:
        return
    yield made
