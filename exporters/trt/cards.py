"""A card's name or a compute capability -> its public figures, for the roofline estimate.

Figures are those of NVIDIA's product pages, data sheets and architecture whitepapers, for the boost clock: memory
bandwidth; FP32 outside the tensor cores (TF32 is off here); dense (not sparse) tensor-core rates, in 16 bits with
FP32 accumulation. Sources in words: T4, A10, L4, L40S, A100 PCIe 40 GB, H100 SXM and H200 SXM data sheets; the GA102,
Ada and RTX Blackwell architecture whitepapers for the GeForce cards. Not measured by us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scconv_deploy.errors import InputError, nearest


@dataclass(frozen=True, slots=True)
class Card:
    """Bandwidth in GB/s; rates in TFLOP/s (TOP/s for int8); a rate of 0 means that the card has no such unit."""

    name: str
    capability: str
    bandwidth: float
    fp32: float
    half: float
    int8: float
    fp8: float

    def rate(self, dtype: str) -> float:
        """TFLOP/s for products of ``dtype`` ("fp32", "fp16", "bf16", "int8", "fp8"); of fp32 for others."""
        found = {"fp16": self.half, "bf16": self.half, "int8": self.int8, "fp8": self.fp8}.get(dtype)
        return found or self.fp32


CARDS = (
    Card("T4", "sm_75", 320, 8.1, 65, 130, 0),
    Card("A100", "sm_80", 1555, 19.5, 312, 624, 0),
    Card("A10", "sm_86", 600, 31.2, 125, 250, 0),
    Card("RTX 3090", "sm_86", 936, 35.6, 71, 284, 0),
    Card("RTX 4090", "sm_89", 1008, 82.6, 165.2, 660.6, 330.3),
    Card("L4", "sm_89", 300, 30.3, 121, 242, 242),
    Card("L40S", "sm_89", 864, 91.6, 362, 733, 733),
    Card("H100", "sm_90", 3350, 67, 989, 1979, 1979),
    Card("H200", "sm_90", 4800, 67, 989, 1979, 1979),
    Card("RTX 5090", "sm_120", 1792, 104.8, 209.5, 838, 419),
)
PREFERRED = ("sm_89", "sm_86", "sm_120", "sm_80", "sm_90", "sm_75")
"""Of an engine for several capabilities the first of these is taken: the most widespread first."""


def choose(name: str | None, capabilities: Sequence[str]) -> Card | None:
    """The card of that name in any spelling, else the first known one of the engine's capabilities.

    None where nothing is known of any of them.

    Raises:
        InputError: no such card is in the table, with the nearest name.
    """
    if name is not None:
        for card in CARDS:
            if _plain(card.name) == _plain(name):
                return card
        names = [card.name for card in CARDS]
        raise InputError(
            f"--card '{name}' is not in the table; choose one of {', '.join(names)}{nearest(name, names)}"
        )
    for wanted in PREFERRED:
        if wanted in capabilities:
            return next(card for card in CARDS if card.capability == wanted)
    return None


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
