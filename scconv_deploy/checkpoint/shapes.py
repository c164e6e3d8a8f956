"""Tensor names and shapes -> the prefixes under which an SCConv block's weights lie, as far as shapes tell.

A CRU is five convolution weights wired by their channel counts; an SRU is one pair of per-channel vectors.
The weights do not determine the function (gate kind, threshold, groups and eps are in no tensor), so this
only points at places; certification needs the module's own forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

Shape = tuple[int, ...]

MAX_DEPTH = 40
"""Parts of a dotted name that are looked at; a forged name may have a million."""

AFFINE = {"gamma": "gamma", "beta": "gamma", "weight": "weight", "bias": "weight"}
FAMILIES = {("gamma", 3): ("F0", "F1"), ("weight", 3): ("F2",), ("weight", 1): ("F3", "paper")}
"""Names of the norm's scale and number of its axes -> families whose published copies store it so."""


def scconv_prefixes(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Outermost prefixes that hold exactly the five kernels of a CRU (with or without its SRU beside it)."""
    kernels: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            for prefix in _ancestors(name):
                inside = kernels.setdefault(prefix, [])
                if len(inside) < 6:
                    inside.append(name)
    found: dict[tuple[str, ...], str] = {}
    for prefix, names in kernels.items():
        if len(names) == 5:
            key = tuple(names)
            # The prefix that adds an SRU's vectors is reported, not the CRU inside it a second time.
            if len(prefix) < len(found.get(key, prefix + ".")):
                found[key] = prefix
    return tuple(prefix for names, prefix in found.items() if _is_cru([shapes[n] for n in names]))


def families_allowed(shapes: Mapping[str, Shape], prefixes: Sequence[str]) -> tuple[str, ...]:
    """Families whose copies name and shape the norm's parameters as these blocks do; () where none does.

    Names are habits, not proof: another implementation may use them for other mathematics.
    """
    wanted = set(prefixes)
    seen: set[tuple[str, ...]] = set()
    for name, shape in shapes.items():
        parent, _, last = name.rpartition(".")
        affine = last in AFFINE and (len(shape) == 1 or (len(shape) == 3 and shape[1:] == (1, 1)))
        # A bias of one axis may be a convolution's; its weight then has four.
        if affine and len(shapes.get(f"{parent}.weight", ())) != 4 and wanted.intersection(_ancestors(name)):
            seen.add(FAMILIES.get((AFFINE[last], len(shape)), ()))
    return next(iter(seen)) if len(seen) == 1 else ()


def _ancestors(name: str) -> list[str]:
    parts = name.split(".", MAX_DEPTH)[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]


def _is_cru(kernels: Sequence[Shape]) -> bool:
    """Whether the five kernels can be squeeze_up, squeeze_low, GWC, PWC1 and PWC2 in some order."""
    if any(0 in kernel for kernel in kernels):
        return False
    for up, low, gwc, pwc1, pwc2 in permutations(kernels):
        one_by_one = all(k[2:] == (1, 1) for k in (up, low, pwc1, pwc2))
        wired = pwc1[1] == up[0] and pwc2[1] == low[0] and gwc[0] == pwc1[0] and up[0] % gwc[1] == 0
        if one_by_one and wired and pwc2[0] in (gwc[0], gwc[0] - low[0]) and gwc[2:] != (1, 1):
            return True
    return False
