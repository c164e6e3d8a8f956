"""Shapes and a seed -> probes: weights for the private copy together with an input, all float64.

Weights are drawn anew because trained or fresh ones can make two different functions look alike (gamma all
ones makes every gamma weight 1/C). What a probe is for is in its name.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
"""Tensor name in the user's module -> value of that tensor's shape."""

SIZES = ((3, 5), (4, 6), (5, 4), (6, 8), (8, 8), (7, 7), (10, 10), (12, 16), (20, 20), (32, 32))
"""Spatial sizes tried, small first: flat groups and reflect padding refuse some of them."""
OPEN_LOGIT = 50.0
"""sigmoid(50) is 1 in float64 and above any threshold below 1."""

_RANGES = (("dark image", 0.5, -3.0), ("bright image", 4.0, 8.0), ("faint image", 1e-3, 0.0))
"""Spread and offset of inputs beside the usual ones: a clamp or a ReLU6 acts only on some of them. Brighter
ones saturate the fuse's softmax, and a norm without eps behind it then divides rounding by rounding."""


class GammaStyle(Enum):
    """How gamma is drawn."""

    NEGATIVE_SUM = "mixed signs, negative sum"
    POSITIVE_SUM = "mixed signs, positive sum"
    DOMINANT = "one channel dominates"
    ONES = "all ones"


@dataclass(frozen=True, slots=True)
class Probe:
    """One comparison. ``theirs`` None means the stored weights; ``ours`` differs from it only for exact ties.

    ``edge``: the probe holds gates at or on both sides of the threshold.
    """

    name: str
    x: Tensor
    theirs: Weights | None
    ours: Weights | None
    edge: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What weights can be drawn from: every live tensor's shape, the SRU's names, and the seed."""

    shapes: Mapping[str, tuple[int, ...]]
    gamma: str | None
    beta: str | None
    seed: int
    sums: tuple[float, ...] = ()
    """Magnitudes of a sum of gamma at which an added eps or a clamp would show."""

    weight: str | None = None
    mask: str | None = None
    drawn: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def weights(
        self, label: str, style: GammaStyle, *, biases: bool = True, convs: str = "first"
    ) -> dict[str, Tensor]:
        """Gamma and beta drawn anew per label; convolutions per ``convs``, since few draws of those suffice.

        The same label, style and seed give the same values on every machine.
        """
        found = dict(self._convolutions(convs, biases=biases))
        source = generator(self.seed, label)
        if self.gamma is not None:
            found[self.gamma] = draw_gamma(self.shapes[self.gamma], style, source)
        if self.beta is not None:
            found[self.beta] = torch.randn(self.shapes[self.beta], generator=source, dtype=torch.float64)
        if self.weight is not None:
            # A stored weight says nothing about gamma: both signs, whatever gamma's.
            shape = self.shapes[self.weight]
            size, side = torch.rand((2, *shape), generator=source, dtype=torch.float64)
            drawn = 0.25 * (size + 0.5) * torch.where(side > 0.5, 1.0, -1.0)
            found[self.weight] = torch.ones_like(drawn) if style is GammaStyle.ONES else drawn
        if self.mask is not None:
            chosen = torch.rand(self.shapes[self.mask], generator=source, dtype=torch.float64) > 0.5
            found[self.mask] = (chosen & (style is not GammaStyle.ONES)).double()
        return found

    def stored(self, weights: Weights) -> dict[str, Tensor]:
        """The drawn values of what is stored besides gamma and beta, by role."""
        roles = {"weight": self.weight, "mask": self.mask}
        return {role: weights[name] for role, name in roles.items() if name is not None}

    def _convolutions(self, label: str, *, biases: bool) -> dict[str, Tensor]:
        key = label if biases else label + " without biases"
        if key not in self.drawn:
            source = generator(self.seed, "convolutions:" + label)
            made = self.drawn.setdefault(key, {})
            for name, shape in self.shapes.items():
                if name in (self.gamma, self.beta, self.weight, self.mask):
                    continue
                value = torch.randn(shape, generator=source, dtype=torch.float64)
                if len(shape) > 1:
                    value = value * (1.5 / math.sqrt(value[0].numel()))
                made[name] = value if len(shape) > 1 or biases else torch.zeros_like(value)
        return self.drawn[key]

    def image(
        self, label: str, shape: tuple[int, int, int, int], spread: float = 1.0, offset: float = 0.25
    ) -> Tensor:
        """A random input with an offset, so that means matter."""
        source = generator(self.seed, "x:" + label)
        return torch.randn(shape, generator=source, dtype=torch.float64) * spread + offset


def generator(seed: int, label: str) -> torch.Generator:
    """A private random stream per label."""
    return torch.Generator().manual_seed((seed * 1_000_003 + zlib.crc32(label.encode())) % 2**63)


def draw_gamma(shape: tuple[int, ...], style: GammaStyle, source: torch.Generator) -> Tensor:
    """Gamma with a sum well away from zero, so that gamma / sum is well conditioned."""
    size = torch.rand(shape, generator=source, dtype=torch.float64) + 0.5
    flat = size.reshape(-1)
    index = torch.arange(flat.numel())
    if style is GammaStyle.ONES:
        return torch.ones(shape, dtype=torch.float64)
    if style is GammaStyle.DOMINANT:
        # 12 puts a softmax over 2,000 channels above 0.98 on this channel, and a sum above 0.9.
        other = torch.where(index % 4 == 1, -flat, flat) / flat.numel()
        return torch.where(index == 0, 12.0, other).reshape(shape)
    sign = -1.0 if style is GammaStyle.NEGATIVE_SUM else 1.0
    return torch.where(index % 4 == 1, -0.5 * flat, flat).mul(sign).reshape(shape)


def open_probe(draft: Draft, shape: tuple[int, int, int, int]) -> Probe:
    """Gate forced open: gamma = 1 and beta around 50 C make every logit exceed 45 for any norm and weight."""
    weights = draft.weights("open", GammaStyle.ONES)
    if draft.beta is not None:
        ripple = torch.rand(
            draft.shapes[draft.beta], generator=generator(draft.seed, "beta"), dtype=torch.float64
        )
        weights[draft.beta] = OPEN_LOGIT * shape[1] * (1.0 + 0.2 * ripple)
    return Probe("gate forced open", draft.image("open", shape), weights, weights)


def general_probes(
    draft: Draft, channels: int, sizes: tuple[tuple[int, int], ...], batch: int | None = None
) -> list[Probe]:
    """Probes for every candidate: redrawn weights, the stored ones, and sums of gamma near an eps.

    ``batch`` is the only batch that a program may accept; else 1 and 2 are used.
    """
    first, second = sizes[0], sizes[-1]
    one, two = (1, 2) if batch is None else (batch, batch)

    def probe(name: str, style: GammaStyle, batch: int, size: tuple[int, int], convs: str) -> Probe:
        weights = draft.weights(name, style, convs=convs)
        return Probe(name, draft.image(name, (batch, channels, *size)), weights, weights)

    found = [
        probe("negative sum of gamma", GammaStyle.NEGATIVE_SUM, two, first, "first"),
        probe("positive sum of gamma", GammaStyle.POSITIVE_SUM, one, second, "second"),
    ]
    stored = draft.image("stored", (two, channels, *first))
    found.append(Probe("stored weights", stored, None, None))
    for name, spread, offset in _RANGES:
        weights = draft.weights("ranges", GammaStyle.POSITIVE_SUM)
        x = draft.image(name, (one, channels, *first), spread, offset)
        found.append(Probe(name, x, weights, weights))
    if draft.gamma is None:
        return found
    found.append(probe("dominant channel", GammaStyle.DOMINANT, one, first, "first"))
    for bound in draft.sums:
        for share in (-0.5, -1.001, 2.0):
            # Minus a half: an added eps of that size turns the sum. Just below: it nearly cancels, and a
            # clamp acts. Plus two: above a clamp of that size, where a smaller added eps shows again.
            style = GammaStyle.NEGATIVE_SUM if share < 0 else GammaStyle.POSITIVE_SUM
            weights = draft.weights("small sum", style)
            weights[draft.gamma] = with_sum(weights[draft.gamma], share * bound)
            x = draft.image("small sum", (one, channels, *first))
            found.append(Probe(f"sum of gamma {share * bound:.1e}", x, weights, weights))
    return found


def with_sum(gamma: Tensor, total: float) -> Tensor:
    """Gamma scaled so that its sum has the magnitude of ``total``; signs are kept."""
    return gamma * (abs(total) / gamma.sum().abs())
