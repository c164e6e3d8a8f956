"""A running module -> the comparisons it makes, seen at dispatch level.

The user's SRU may be written in any way. Its gate is the comparison whose result in float64 equals the
certified mask or its complement; the same comparison, by its place in the order of calls, is then read in
another precision, and the run is cut short there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

COMPARISONS = frozenset({"gt", "ge", "lt", "le"})
AGREEING = 0.9999
"""Share of equal decisions that makes a comparison the gate: ties and float64 sigmoids may part the rest."""


class _Enough(Exception):  # noqa: N818 - ends a run early, reports no error
    """The comparison that was asked for has been made."""


@dataclass(frozen=True, slots=True)
class WatchedGate:
    """The gate's place among a module's comparisons of its size, and whether it is the mask's complement."""

    index: int
    inverted: bool


class _Comparisons(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the results of comparisons with ``size`` elements; stops behind number ``last``."""

    def __init__(self, size: int, last: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size = size
        self.last = last
        self.results: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        name = str(getattr(func, "overloadpacket", func)).rpartition(".")[2]
        if name in COMPARISONS and isinstance(made, Tensor) and made.numel() == self.size:
            self.results.append(made.clone())
            if self.last is not None and len(self.results) > self.last:
                raise _Enough
        return made


def find_gate(block: nn.Module, x: Tensor, mask: Tensor) -> WatchedGate | None:
    """Which comparison of the user's ``block`` (in float64) is the gate; None where none is.

    Args:
        block: the user's own module.
        x: its input.
        mask: the certified decisions for ``x``.
    """
    for index, result in enumerate(_watch(block, x, mask.numel(), None)):
        agreeing = float((result.reshape(mask.shape) == mask).double().mean())
        if agreeing >= AGREEING or agreeing <= 1.0 - AGREEING:
            return WatchedGate(index, inverted=agreeing < 0.5)
    return None


def read_gate(block: nn.Module, x: Tensor, gate: WatchedGate, shape: torch.Size) -> Tensor | None:
    """The decisions of ``block`` (of any precision) for ``x``, as a mask of ``shape``; None if it differs."""
    results = _watch(block, x, shape.numel(), gate.index)
    if len(results) <= gate.index:
        return None
    result = results[gate.index].reshape(shape)
    return ~result if gate.inverted else result


def _watch(block: nn.Module, x: Tensor, size: int, last: int | None) -> list[Tensor]:
    watch = _Comparisons(size, last)
    try:
        with torch.no_grad(), watch:
            block(x)
    except _Enough:
        pass
    except Exception:  # noqa: BLE001 - user code in a precision it was not written for may raise anything
        return []
    return watch.results
