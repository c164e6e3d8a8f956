"""Every operator that has CUDA kernels, by name; the forms are those of ``scconv/fused_ops.py``."""

from __future__ import annotations

from itertools import combinations

from scconv_deploy.kernels.ptx import GATES, MIX_FLAGS, POOL, SRU_FLAGS, WHOLE


def operators() -> tuple[str, ...]:
    """``SRU_*``, ``CRUPool`` and ``CRUMix_*``, each also as ``...Whole``."""
    forms = [
        "_".join([gate, *flags])
        for gate in GATES
        for flags in _subsets(SRU_FLAGS)
        if not (gate == "static" and "ge" in flags)
    ]
    mixes = ["_".join([kind, *flags]) for kind in ("joint", "pair") for flags in _subsets(MIX_FLAGS)]
    return tuple(
        name
        for whole in ("", WHOLE)
        for name in (
            *(f"SRU{whole}_{f}" for f in forms),
            POOL + whole,
            *(f"CRUMix{whole}_{m}" for m in mixes),
        )
    )


def _subsets(flags: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [chosen for count in range(len(flags) + 1) for chosen in combinations(flags, count)]
