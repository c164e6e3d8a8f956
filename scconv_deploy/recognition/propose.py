"""Anatomy and hints -> candidate specifications over all axes, in order of likelihood.

Two steps keep the product of axes small. *Frames* fix what remains visible when the gate is forced open
(wiring, fuse, unit order, reconstruction, gated tensor); *gatings* then vary norm, gamma weight, gate and
threshold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from scconv_deploy.errors import InputError
from scconv_deploy.recognition.observe import ConvCall, Observation
from scconv_deploy.recognition.structure import Anatomy
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

ROLES = ("squeeze_up", "squeeze_low", "gwc", "pwc1", "pwc2")
SMALL = 1e-2
"""Floats up to this may be an eps; those in (0, 1) may be a threshold."""
COMMON_EPS = (1e-10, 1e-5, 1e-6, 1e-8, 1e-3, 1e-12)
COMMON_GROUPS = (16, 4, 32, 8, 2, 1)
MAX_HINTS = 8
NO_DENOMINATOR: tuple[tuple[float, float | None], ...] = ((0.0, None),)
MAX_FRAME_NORMS = 12
"""Norm settings tried where the normalised tensor itself is gated (the open gate then shows the norm)."""


@dataclass(frozen=True, slots=True)
class Hints:
    """Numbers seen in attributes and in the trace, likeliest first."""

    group_norms: tuple[tuple[int, float], ...]
    groups: tuple[int, ...]
    eps: tuple[float, ...]
    thresholds: tuple[float, ...]
    denominators: tuple[tuple[float, float | None], ...]
    comparison: Comparison
    small: tuple[float, ...]
    soft: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """A specification, and the tensor name of every role in the user's module."""

    spec: SCConvSpec
    roles: Mapping[str, str]

    @property
    def key(self) -> tuple[SCConvSpec, tuple[tuple[str, str], ...]]:
        """Hashable identity: two wirings can share a specification and differ in who plays which role."""
        return self.spec, tuple(sorted(self.roles.items()))


def gather_hints(seen: Observation, integers: Iterable[int], floats: Iterable[float], channels: int) -> Hints:
    """Order what was seen: executed numbers first, then attributes, then what public copies use."""
    groups = [g for g in [*seen.sizes, *integers, *COMMON_GROUPS, channels] if 1 <= g <= channels]
    numbers = [*seen.floats, *floats]
    small = [f for f in numbers if 0.0 < f <= SMALL]
    edges = [*seen.compared, *(f for f in numbers if 0.0 < f < 1.0 and f > SMALL), 0.5]
    edges += [1.0 / (1.0 + math.exp(-f)) for f in seen.compared if abs(f) < 500]
    unique_small = tuple(dict.fromkeys(small))[:MAX_HINTS]
    added = (0.0, *unique_small)
    pairs: list[tuple[float, float | None]] = [(e, None) for e in added]
    if "maximum" in seen.operators or seen.clamped:
        bounds = dict.fromkeys([*seen.clamped, *(unique_small if not seen.clamped else ())])
        pairs = [*((e, c) for e in added for c in bounds), *pairs]
    first = seen.comparisons[0] if seen.comparisons else "gt"
    return Hints(
        group_norms=tuple(dict.fromkeys(seen.group_norms)),
        groups=tuple(dict.fromkeys(groups))[:MAX_HINTS],
        eps=tuple(dict.fromkeys([*unique_small, 0.0, *COMMON_EPS]))[:MAX_HINTS],
        thresholds=tuple(dict.fromkeys(edges))[:MAX_HINTS],
        denominators=tuple(pairs),
        comparison=Comparison.GT if first in {"gt", "le"} else Comparison.GE,
        small=unique_small,
        soft="where" in seen.operators,
    )


def frames(anatomy: Anatomy, hints: Hints) -> Iterator[Proposal]:
    """Every wiring, fuse, order, reconstruction and gated tensor, with the gate held constant.

    The gate is represented by its three possible states when forced open: everything kept, everything in
    the rest, everything in both (complement-soft). Norm settings vary only where the gated tensor shows them.
    """
    crus: list[tuple[CRUSpec | None, dict[str, str]]] = list(wirings(anatomy.convs)) or [(None, {})]
    pairs: Iterable[tuple[SRUSpec | None, ...]] = _open_srus(anatomy, hints) if anatomy.gamma else [(None,)]
    for pair, (cru, roles) in itertools.product(pairs, crus):
        for sru, order in itertools.product(pair, Order):
            if (sru is None and cru is None) or (order is Order.CRU_SRU and not (sru and cru)):
                continue
            try:
                yield Proposal(SCConvSpec(sru, cru, order), {**_affine(anatomy), **roles})
            except InputError:
                continue  # the channel counts do not meet in this order


def gatings(frame: Proposal, hints: Hints) -> Iterator[Proposal]:
    """Every norm, gamma weight, gate and threshold that looks like ``frame`` while the gate is open.

    Best first: the cost of a candidate is the sum of its places in the lists of what is likely per axis.
    """
    sru = frame.spec.sru
    if sru is None:
        yield frame
        return
    settings = [(sru.norm, sru.groups, sru.eps)]
    if sru.gated is Gated.INPUT:
        settings = list(norm_settings(sru.channels, hints))
    stored = "weight" in frame.roles
    denominators = NO_DENOMINATOR if stored else hints.denominators
    axes = [range(len(settings)), range(len(denominators)), range(len(hints.thresholds))]
    for a, b, c in sorted(itertools.product(*axes), key=sum):
        norm, groups, eps = settings[a]
        guard = denominators[b]
        for gate in _gates(sru, hints):
            if stored and (gate is Gate.STATIC) != ("mask" in frame.roles):
                continue
            for kind in (GammaWeight.STORED,) if stored else _weights(gate, guard):
                found = replace(sru, norm=norm, groups=groups, eps=eps, gate=gate, gamma_weight=kind)
                found = replace(found, threshold=hints.thresholds[c], comparison=hints.comparison)
                found = replace(found, weight_eps=guard[0], weight_clamp=guard[1])
                yield Proposal(replace(frame.spec, sru=found), frame.roles)


def norm_settings(channels: int, hints: Hints) -> Iterator[tuple[Norm, int, float]]:
    """Norm kind, groups and eps. An executed group norm leaves no choice; else written out by hand."""
    if hints.group_norms:
        for groups, eps in hints.group_norms:
            yield Norm.GROUP_NORM, groups, eps
        return
    places = itertools.product(range(len(hints.eps)), range(len(hints.groups)), Norm)
    # Written by hand it is nearly always the group-std norm; a group norm by hand costs as one place.
    for e, g, norm in sorted(places, key=lambda p: p[0] + p[1] + (p[2] is Norm.GROUP_NORM)):
        if norm is Norm.GROUP_STD or channels % hints.groups[g] == 0:
            yield norm, hints.groups[g], hints.eps[e]


def wirings(convs: tuple[ConvCall, ...]) -> Iterator[tuple[CRUSpec, dict[str, str]]]:
    """Every way to wire five convolutions as a CRU; the order of execution comes first."""
    for found in itertools.permutations(convs) if convs else ():
        up, low, gwc, pwc1, pwc2 = (c.spec for c in found)
        # GWC and PWC1 are added, so exchanging them changes nothing: keep the larger kernel as GWC.
        weight_of = [
            (c.kernel[0] * c.kernel[1], c.groups, -convs.index(call))
            for c, call in zip((gwc, pwc1), found[2:4], strict=True)
        ]
        if weight_of[0] < weight_of[1] or up.c_out != gwc.c_in or low.c_out != pwc2.c_in:
            continue
        orders = [Y2Order.PWC2_LOW, Y2Order.LOW_PWC2]
        if pwc2.c_out == gwc.c_out:
            orders = [Y2Order.PWC2_ONLY]
        names: dict[str, str] = {}
        for role, call in zip(ROLES, found, strict=True):
            names[f"{role}.weight"] = call.weight
            if call.bias:
                names[f"{role}.bias"] = call.bias
        for order, fuse in itertools.product(orders, (Fuse.JOINT, Fuse.PAIR)):
            try:
                yield CRUSpec(up.c_in, low.c_in, up, low, gwc, pwc1, pwc2, order, fuse), names
            except InputError:
                break  # this wiring's channel counts do not fit


def _affine(anatomy: Anatomy) -> dict[str, str]:
    return anatomy.vectors if anatomy.gamma and anatomy.beta else {}


def _open_srus(anatomy: Anatomy, hints: Hints) -> Iterator[tuple[SRUSpec, ...]]:
    """SRUs whose mask is constant: threshold -1 keeps everything, 2 puts everything into the rest."""
    states = ((Gate.HARD, -1.0), (Gate.COMPLEMENT_SOFT, -1.0), (Gate.HARD, 2.0))
    kind = GammaWeight.STORED if anatomy.weight else GammaWeight.SUM
    for gated in (Gated.INPUT, Gated.NORMALISED):
        settings = list(norm_settings(anatomy.channels, hints))
        for norm, groups, eps in settings[: 1 if gated is Gated.INPUT else MAX_FRAME_NORMS]:
            for gate, t in states:
                try:
                    first = SRUSpec(anatomy.channels, norm, groups, eps, kind, gate, Comparison.GT, t, gated)
                except InputError:
                    continue  # these groups do not divide the channels
                yield first, replace(first, reconstruct=Reconstruct.WITHIN)


def _gates(sru: SRUSpec, hints: Hints) -> tuple[Gate, ...]:
    """Gates that can show this frame's state: only the static mask can be closed while s is large."""
    if sru.gate is Gate.COMPLEMENT_SOFT:
        return (Gate.COMPLEMENT_SOFT,)
    if sru.threshold > 1.0:
        return (Gate.STATIC, Gate.HARD, Gate.SOFT)
    return (Gate.SOFT, Gate.HARD, Gate.STATIC) if hints.soft else (Gate.HARD, Gate.SOFT, Gate.STATIC)


def _weights(gate: Gate, denominator: tuple[float, float | None]) -> tuple[GammaWeight, ...]:
    if denominator != (0.0, None):
        return (GammaWeight.SUM, GammaWeight.ABS_SUM)  # softmax and none have no denominator to guard
    if gate is Gate.STATIC:
        return (GammaWeight.SOFTMAX, GammaWeight.SUM, GammaWeight.ABS_SUM, GammaWeight.NONE)
    return (GammaWeight.SUM, GammaWeight.ABS_SUM, GammaWeight.SOFTMAX, GammaWeight.NONE)
