"""A block's specification (JSON) -> words that a reader of the paper understands.

``SRU: 64 channels, GroupNorm of 16 groups (eps 1e-05), gate weight gamma / sum(gamma), hard gate > 0.5, ...``
A value that this version does not know is shown as it stands; what is missing is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scconv_deploy.report.manifest import Section

NORMS = {
    "group_norm": "GroupNorm",
    "group_std": "group standardisation (unbiased deviation, eps outside the root)",
}
WEIGHTS = {
    "sum": "gamma / sum(gamma)",
    "abs_sum": "gamma / sum(|gamma|)",
    "softmax": "softmax(gamma)",
    "none": "1",
}
GATES = {
    "hard": "hard gate",
    "soft": "soft gate",
    "complement_soft": "complement-soft gate",
    "static": "gate fixed by the weights",
}
RECONSTRUCTIONS = {"cross": "halves added crosswise", "within": "halves added within each branch"}
LOWER = {
    "pwc2_low": "lower branch [PWC2(low), low]",
    "low_pwc2": "lower branch [low, PWC2(low)]",
    "pwc2_only": "lower branch PWC2(low)",
}
FUSES = {"joint": "one softmax over both branches' channels", "pair": "softmax per channel pair"}


@dataclass(frozen=True, slots=True)
class Kind:
    """Blocks that compute the same: one (unit, words) pair per unit in order, and the blocks' paths."""

    units: tuple[tuple[str, str], ...]
    variant: str
    paths: tuple[str, ...]


def kinds(blocks: tuple[Section, ...]) -> tuple[Kind, ...]:
    """Blocks grouped by specification, in the order they first appear."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for block in blocks:
        words = units(block.section("spec"))
        if words:
            key = (block.text("variant") or "?", words)
            found.setdefault(key, []).append(block.text("path") or "(root)")
    return tuple(Kind(words, variant, tuple(paths)) for (variant, words), paths in found.items())


def units(spec: Section) -> tuple[tuple[str, str], ...]:
    """``(("SRU", words), ("CRU", words))`` in the block's order; units that are absent are left out."""
    pairs = [("SRU", _sru(spec.section("sru"))), ("CRU", _cru(spec.section("cru")))]
    if spec.text("order") == "cru_sru":
        pairs.reverse()
    return tuple((unit, words) for unit, words in pairs if words)


def channels(spec: Section) -> tuple[str, str] | None:
    """Channels in and out; None where the specification does not say."""
    own = spec.section("sru").text("channels")
    cru = spec.section("cru")
    up, low = cru.number("up"), cru.number("low")
    split = f"{up + low:g}" if up is not None and low is not None else None
    made = cru.section("gwc").text("c_out")
    first, last = (split, own) if spec.text("order") == "cru_sru" else (own, made)
    first, last = first or split or own, last or made or own
    return (first, last) if first and last else None


def _sru(sru: Section) -> str:
    if not sru:
        return ""
    sign = {"gt": ">", "ge": "≥"}.get(sru.text("comparison") or "", sru.text("comparison") or "?")
    eps = sru.number("eps")
    parts = [
        _some(sru, "channels", "{} channels"),
        f"{_word(NORMS, sru, 'norm')} of {sru.text('groups') or '?'} groups"
        + (f" (eps {eps:.6g})" if eps is not None else ""),
        f"gate weight {_word(WEIGHTS, sru, 'gamma_weight')}{_guard(sru)}",
        f"{_word(GATES, sru, 'gate')} {sign} {sru.text('threshold') or '?'}",
        "gates the input" if sru.text("gated") == "input" else _some(sru, "gated", "gates the {} input"),
        _word(RECONSTRUCTIONS, sru, "reconstruct"),
    ]
    return ", ".join(p for p in parts if p)


def _guard(sru: Section) -> str:
    """What keeps the gamma weight's denominator from zero, if anything."""
    added, clamp = sru.number("weight_eps"), sru.number("weight_clamp")
    words = f" with {added:g} added to the sum" if added else ""
    return words + (f" with the sum clamped at {clamp:g}" if clamp is not None else "")


def _cru(cru: Section) -> str:
    if not cru:
        return ""
    up, low, gwc = cru.section("squeeze_up"), cru.section("squeeze_low"), cru.section("gwc")
    parts = [
        f"splits {cru.text('up') or '?'} + {cru.text('low') or '?'} channels",
        f"squeezes to {up.text('c_out') or '?'} + {low.text('c_out') or '?'}{_settings(up)}",
        f"group-wise {_kernel(gwc)} convolution in {gwc.text('groups') or '?'} groups{_settings(gwc)} plus "
        f"{_kernel(cru.section('pwc1'))} to {gwc.text('c_out') or '?'} channels",
        _word(LOWER, cru, "y2_order"),
        _word(FUSES, cru, "fuse"),
    ]
    return ", ".join(p for p in parts if p)


def _settings(conv: Section) -> str:
    """Stride, dilation, bias and padding mode where they are out of the ordinary."""
    words = []
    for key in ("stride", "dilation"):
        extents = conv.items(key)
        if extents and any(e != 1 for e in extents):
            words.append(f"{key} {extents[0]}")
    if conv.data.get("bias") is True:
        words.append("bias")
    if (mode := conv.text("padding_mode")) not in (None, "zeros"):
        words.append(f"{mode} padding")
    return f" ({', '.join(words)})" if words else ""


def _kernel(conv: Section) -> str:
    return "x".join(str(k) for k in conv.items("kernel")) or "?"


def _word(words: Mapping[str, str], section: Section, key: str) -> str:
    value = section.text(key)
    return "" if value is None else words.get(value, value)


def _some(section: Section, key: str, form: str) -> str:
    value = section.text(key)
    return "" if value is None else form.format(value)
