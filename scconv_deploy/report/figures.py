"""A verification (JSON) -> the few figures that decide its verdict: where it breaks, flips, budgets missed.

The terminal and the page say the same because both ask here. Nothing is judged: every limit and verdict is
the verification's own. What an older verification does not hold reads as None or as nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from scconv_deploy.report.manifest import Section, percent_text
from scconv_deploy.verdicts import TOP1, Verdict

FLIP_RATE = re.compile("flip.rate")
"""The budget's name; "flips outside the rounding band" is another one."""


@dataclass(frozen=True, slots=True)
class Flips:
    """Flipped gates of all watched blocks. Rates are shares, 0 to 1.

    ``worst_block`` is where the artifact's rate is highest. ``pytorch_rate`` is the highest rate of the
    user's own module in the same precision; None where it could not be watched anywhere.
    """

    blocks: int
    gates: int
    flips: int
    outside_band: int
    worst_block: str
    worst_rate: float
    pytorch_rate: float | None


def watched(verification: Section) -> tuple[Section, ...]:
    """The pieces whose gates were counted."""
    return tuple(piece for piece in verification.sections("pieces") if piece.section("gate"))


def rate(gate: Section, count: str = "flips") -> float | None:
    """Share of gates that ``count`` ("flips", "pytorch_flips") names; None where either is unknown."""
    gates, flips = gate.number("gates"), gate.number(count)
    if gates is None or flips is None or not math.isfinite(gates) or not math.isfinite(flips):
        return None
    return flips / gates if gates else 0.0


def flips(verification: Section) -> Flips | None:
    """All blocks' flips together; None where no gate was watched."""
    found = [(p, r) for p in watched(verification) if (r := rate(p.section("gate"))) is not None]
    if not found:
        return None
    worst, worst_rate = max(found, key=lambda pair: pair[1])
    own = [r for p, _ in found if (r := rate(p.section("gate"), "pytorch_flips")) is not None]
    return Flips(
        blocks=len(found),
        gates=_total(found, "gates"),
        flips=_total(found, "flips"),
        outside_band=_total(found, "flips_outside_band"),
        worst_block=worst.text("piece") or "(root)",
        worst_rate=worst_rate,
        pytorch_rate=max(own) if own else None,
    )


def located(verification: Section) -> str | None:
    """Where the first difference is, down to the unit and operator if these were looked for.

    ``layer3.0.conv2.SRU``, or ``layer3.0.conv2.SRU, operator layer3.0.conv2/Greater_7``.
    """
    first = verification.text("first_divergent_block")
    if first is None:
        return None
    name = {p.text("piece"): p for p in verification.sections("pieces")}
    piece = name.get(first) or name.get(first.rpartition(".")[0])
    if piece is None:
        return first
    unit = next((u.text("unit") for u in piece.sections("units") if failed(u)), None)
    place = f"{first}.{unit}" if unit and piece.text("piece") == first else first
    operator = piece.text("operator")
    return f"{place}, operator {operator}" if operator else place


def missed(verification: Section) -> tuple[Section, ...]:
    """The budgets that were not kept."""
    return tuple(b for b in verification.sections("budgets") if b.data.get("kept") is False)


def flip_budget(verification: Section) -> float | None:
    """The limit of the flip rate, if it is among the budgets."""
    named = (b for b in verification.sections("budgets") if FLIP_RATE.search(b.text("name") or ""))
    return next((b.number("limit") for b in named), None)


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the artifact is at the task: a label, the value as text, and what it was measured on."""

    label: str
    value: str
    words: str


def quality(verification: Section) -> Quality | None:
    """The task metric on the user's real samples; where there are none, the lowest agreement on random ones.

    On random inputs an untrained or unsure network's top class is a toss of a coin: it never stands for, or
    beside, what was measured on real samples.
    """
    task = verification.section("task")
    if task:
        samples, value = task.number("samples"), task.number("artifact")
        known = samples is not None and math.isfinite(samples)
        on = f"{samples:,.0f} real samples" if known else "real samples"
        name = task.text("name") or "task metric"
        if name == TOP1:
            return Quality("top-1", percent_text(value), f"agree with PyTorch on {on}")
        own = task.number("reference")
        beside = "" if own is None else f", {own:.4g} with PyTorch"
        return Quality(name, "-" if value is None else f"{value:.4g}", f"with the artifact{beside}, on {on}")
    found = [
        (agreement, item.text("case") or "?")
        for item in verification.sections("comparisons")
        if (agreement := item.section("metrics").number("top1_agreement")) is not None
    ]
    if not found:
        return None
    share, case = min(found)
    words = f"agree with PyTorch in the worst case ({case}); no real samples were given"
    return Quality("top-1", percent_text(share), words)


def failed(item: Section) -> bool:
    """Whether a comparison, piece or unit has the verdict FAIL."""
    return item.text("verdict") == Verdict.FAIL.value


def used(error: float | None, limit: float | None) -> float:
    """Share of the limit that the error uses, for sorting; what is not finite uses the most."""
    if error is None or limit is None or not math.isfinite(error):
        return math.inf
    if limit <= 0:
        return math.inf if error > 0 else 0.0
    return error / limit


def _total(found: list[tuple[Section, float]], key: str) -> int:
    numbers = (piece.section("gate").number(key) for piece, _ in found)
    return sum(int(n) for n in numbers if n is not None and math.isfinite(n))
