"""Measured ratios and shares -> the one line that says how a place stands, and if slower, because of what.

Blame: where the CRU alone is not slower than the plain convolution, the SRU made the place slower, and the
other way round; where each alone is slower, the one that takes longer did.
"""

from __future__ import annotations

from collections.abc import Sequence

from scconv_deploy.measurements import Estimate
from scconv_deploy.profiles import Cost, Standing, standing

NOT_COMPARED = "not compared: no plain twin was profiled (give the model itself beside its bundle)"
NOTHING_THERE = "the plain network has nothing here: all of this time is SCConv's"


def block_sentence(ratio: Estimate | None, units: Sequence[Cost], plain: Estimate | None) -> str:
    """One block's line. ``plain`` is the time of the convolution in its place."""
    if ratio is None:
        return NOT_COMPARED if plain is None else NOTHING_THERE
    found = standing(ratio)
    if found is Standing.FASTER:
        return f"faster than the plain convolution here: {ratio.value:.2f} of its time"
    if found is Standing.LEVEL:
        return f"level with the plain convolution here: {_interval(ratio)} of its time"
    return f"slower{_because(units, plain, 'share_of_block')}; {_times(ratio)} the plain convolution's"


def net_sentence(ratio: Estimate | None, units: Sequence[Cost], plain: Estimate | None) -> str:
    """The whole network's line. ``plain`` is the time of all convolutions that SCConv replaced."""
    if ratio is None:
        return NOT_COMPARED
    found = standing(ratio)
    if found is Standing.FASTER:
        return f"faster than the plain network here: {ratio.value:.2f} of its time"
    if found is Standing.LEVEL:
        return f"level with the plain network here: {_interval(ratio)} of its time"
    return f"slower{_because(units, plain, 'share')}; {_times(ratio)} the plain network's"


def blamed(units: Sequence[Cost], plain: Estimate | None) -> Cost | None:
    """The unit that made the place slower."""
    if not units:
        return None
    if plain is not None and len(units) > 1:
        alone = [u for u in units if u.time_ms.value > plain.value]
        rest = [u for u in units if u not in alone]
        # Exactly one unit is slower by itself: without it the place would not be.
        if len(alone) == 1:
            return alone[0]
        if not alone and any(u.name == "SRU" for u in rest):
            # Either alone would be faster; the SRU is what the plain network does not have at all.
            return next(u for u in rest if u.name == "SRU")
    return max(units, key=lambda u: u.time_ms.value)


def _because(units: Sequence[Cost], plain: Estimate | None, share: str) -> str:
    unit = blamed(units, plain)
    if unit is None:
        return ""
    part: float | None = getattr(unit, share)
    words = [f"is {unit.bound.value}"] if unit.bound is not None else []
    words += [f"takes {100 * part:.0f} % of the time"] if part is not None else []
    return f": {unit.name} {' and '.join(words)}" if words else ""


def _interval(ratio: Estimate) -> str:
    return f"{ratio.low:.2f} to {ratio.high:.2f}"


def _times(ratio: Estimate) -> str:
    return f"{ratio.value:.2f} times"
