"""A certified specification -> its name: a family, or "custom (...)" with what differs from the nearest."""

from __future__ import annotations

import struct

from scconv_deploy.scconv.reference.families import FAMILIES, Family
from scconv_deploy.scconv.spec import CRUSpec, GammaWeight, Order, Reconstruct, SCConvSpec, SRUSpec, Y2Order


def variant_name(spec: SCConvSpec) -> str:
    """``"F3"``, ``"F1 (SRU only)"``, ``"CRU only"`` or ``"custom (F3 with gate hard)"``.

    Group counts, channel counts and the CRU's integers are settings of a family, not differences from it.
    """
    units = "" if spec.sru and spec.cru else " (SRU only)"
    if spec.sru is None:
        assert spec.cru is not None  # a specification has at least one unit
        extra = _cru_differences(spec.cru)
        fuse = "" if spec.cru.fuse == "joint" else "paper, "
        return f"{fuse}CRU only" if not extra else f"custom ({fuse}CRU only, with {', '.join(extra)})"
    name, differences = min(
        ((name, _differences(spec, family)) for name, family in FAMILIES.items()),
        key=lambda item: len(item[1]),
    )
    if not differences:
        return f"{name}{units}"
    return f"custom ({name}{units} with {', '.join(differences)})"


def describe(spec: SCConvSpec) -> str:
    """One line with every axis, for certificates and refusals."""
    parts = []
    if spec.sru:
        s = spec.sru
        sign = ">" if s.comparison == "gt" else ">="
        guard = f"+{s.weight_eps:g}" if s.weight_eps else ""
        guard += f" clamped at {s.weight_clamp:g}" if s.weight_clamp is not None else ""
        parts.append(
            f"SRU[{s.norm}({s.groups}, eps={s.eps:.6g}), weight {s.gamma_weight}{guard}, {s.gate} gate "
            f"{sign} {s.threshold:.6g}, gated {s.gated}, {s.reconstruct}]"
        )
    if spec.cru:
        c = spec.cru
        parts.append(f"CRU[{c.up}+{c.low}->{c.c_out}, {c.y2_order}, {c.fuse}]")
    return " ".join(parts if spec.order is Order.SRU_CRU else parts[::-1])


def _differences(spec: SCConvSpec, family: Family) -> list[str]:
    sru = spec.sru
    found = [] if sru is None else _sru_differences(sru, family)
    if spec.cru is not None:
        found += [] if spec.cru.fuse is family.fuse else [f"{spec.cru.fuse} fuse"]
        found += _cru_differences(spec.cru)
        found += [] if spec.order is Order.SRU_CRU else ["CRU before SRU"]
    return found


def _sru_differences(s: SRUSpec, family: Family) -> list[str]:
    rules = [
        (s.norm is family.norm, f"norm {s.norm}"),
        (s.norm is not family.norm or _same_number(s.eps, family.eps), f"eps {s.eps:g}"),
        (s.gamma_weight in (family.gamma_weight, GammaWeight.STORED), f"gamma weight {s.gamma_weight}"),
        (s.gate is family.gate, f"{s.gate} gate"),
        (s.comparison is family.comparison, f"comparison {'>' if s.comparison == 'gt' else '>='}"),
        (s.threshold == 0.5, f"threshold {s.threshold:.6g}"),
        (s.gated is family.gated, f"gated {s.gated}"),
        (s.reconstruct is Reconstruct.CROSS, f"{s.reconstruct} reconstruction"),
        (s.weight_eps == 0.0, f"{s.weight_eps:g} added to the gamma sum"),
        (s.weight_clamp is None, "a clamped gamma sum"),
    ]
    return [words for same, words in rules if not same]


def _same_number(one: float, other: float) -> bool:
    """Equal, or equal in float32: programs store their constants in that type."""
    return one == other or struct.pack("f", one) == struct.pack("f", other)


def _cru_differences(c: CRUSpec) -> list[str]:
    """What differs from the usual CRU: stride, biases, Y2 order, a kernel other than 3x3."""
    found = [] if c.y2_order is Y2Order.PWC2_LOW else [f"Y2 order {c.y2_order}"]
    for role in ("squeeze_up", "squeeze_low", "pwc1", "pwc2"):
        conv = getattr(c, role)
        if conv.bias:
            found.append(f"a bias on {role}")
        if conv.stride != (1, 1):
            found.append(f"stride {conv.stride[0]} on {role}")
    if not c.gwc.bias:
        found.append("no bias on the group-wise convolution")
    if c.gwc.padding_mode != "zeros":
        found.append(f"{c.gwc.padding_mode} padding")
    return found
