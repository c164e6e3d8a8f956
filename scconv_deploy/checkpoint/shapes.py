"""Tensor names and shapes -> the prefixes under which an SCConv block's weights lie, as far as shapes tell.

A CRU is five convolution weights wired by their channel counts; an SRU is one pair of per-channel vectors.
The weights do not determine the function (gate kind, threshold, groups and eps are in no tensor), so this only
points at places; certification needs the module's own forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

Shape = tuple[int, ...]


def scconv_prefixes(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """Innermost prefixes whose tensors look like a CRU (with or without its SRU beside it)."""
    found: list[str] = []
    for prefix in _prefixes(shapes):
        inside = {k: v for k, v in shapes.items() if prefix == "" or k.startswith(prefix + ".")}
        kernels = [s for s in inside.values() if len(s) == 4]
        if len(kernels) == 5 and _is_cru(kernels):
            found.append(prefix)
    # Report the outermost prefix that adds an SRU's vectors, not the CRU inside it a second time.
    kept = [p for p in found if not any(_same_convolutions(p, q, shapes) and len(q) < len(p) for q in found)]
    return tuple(kept)


def _prefixes(shapes: Mapping[str, Shape]) -> list[str]:
    prefixes: dict[str, None] = {}
    for name in shapes:
        parts = name.split(".")[:-1]
        for depth in range(len(parts) + 1):
            prefixes[".".join(parts[:depth])] = None
    return list(prefixes)


def _same_convolutions(inner: str, outer: str, shapes: Mapping[str, Shape]) -> bool:
    if outer and not inner.startswith(outer + "."):
        return False
    return all(
        name.startswith(inner + ".")
        for name, shape in shapes.items()
        if len(shape) == 4 and (outer == "" or name.startswith(outer + "."))
    )


def _is_cru(kernels: Sequence[Shape]) -> bool:
    """Whether the five kernels can be squeeze_up, squeeze_low, GWC, PWC1 and PWC2 in some order."""
    for up, low, gwc, pwc1, pwc2 in permutations(kernels):
        one_by_one = all(k[2:] == (1, 1) for k in (up, low, pwc1, pwc2))
        wired = pwc1[1] == up[0] and pwc2[1] == low[0] and gwc[0] == pwc1[0] and up[0] % gwc[1] == 0
        if one_by_one and wired and pwc2[0] in (gwc[0], gwc[0] - low[0]) and gwc[2:] != (1, 1):
            return True
    return False
