"""A launcher -> every operator on random and edge inputs against float64, as rows for the JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from scconv_deploy.kernels.launch import last_width
from scconv_deploy.kernels.ptx import Layout
from tests.kernels.cuda.operators import (
    DTYPES,
    Launcher,
    error,
    expected_fuse,
    run_fuse,
    run_sru,
)
from tests.kernels.forms import SRU_FORMS, groups_for, image, sru_case
from tests.kernels.reference import sru

TOLERANCE = 4e-6
"""Of float32 arithmetic with the GPU's approximate exp and division; fp16 and bf16 may be half a step further."""
SRU_SHAPES = (
    ((2, 16, 5, 7), 4),
    ((1, 6, 3, 3), 3),
    ((1, 12, 9, 9), 2),
    ((1, 64, 14, 14), 16),
    ((1, 4, 96, 97), 2),
)
FUSE_SHAPES = ((1, 8, 5, 7), (2, 6, 4, 3), (3, 1, 1, 1), (1, 264, 3, 3), (1, 16, 33, 31))
FUSE_FORMS = tuple(
    "_".join(["CRUFuse", kind, *flags])
    for kind in ("joint", "pair")
    for count in range(4)
    for flags in combinations(("affine", "add", "relu"), count)
)

Row = dict[str, object]


def rows(
    device: Launcher,
    types: Sequence[str] = tuple(DTYPES),
    sru_forms: Sequence[str] = SRU_FORMS,
    fuse_forms: Sequence[str] = FUSE_FORMS,
) -> Iterator[Row]:
    """One row per operator, type and layout: its worst error over the shapes, and whether that passes."""
    for dtype in types:
        for layout in Layout:
            for operator in sru_forms:
                yield _row(operator, dtype, layout, _sru_error(device, operator, dtype, layout))
            for operator in fuse_forms:
                yield _row(operator, dtype, layout, _fuse_error(device, operator, dtype, layout))


def _row(operator: str, dtype: str, layout: Layout, found: float) -> Row:
    return {
        "operator": operator,
        "type": dtype,
        "layout": layout.value,
        "error": found,
        "passed": bool(found <= TOLERANCE),
    }


def _sru_error(device: Launcher, operator: str, dtype: str, layout: Layout) -> float:
    found = 0.0
    for seed, (shape, wanted) in enumerate(SRU_SHAPES):
        groups = groups_for(operator, shape[1], shape[2] * shape[3], wanted)
        if layout is Layout.LAST and last_width(shape[1], groups, dtype) is None:
            continue
        case, x = sru_case(operator, shape[1], groups, seed), image(shape, seed).astype(DTYPES[dtype])
        for whole in (False, True):
            got = run_sru(device, case, x, dtype, layout, whole)
            found = max(found, error(sru(case, x), got, dtype))
    return found


def _fuse_error(device: Launcher, operator: str, dtype: str, layout: Layout) -> float:
    found = 0.0
    for shape in FUSE_SHAPES:
        generator = np.random.default_rng(shape[1])
        offsets = generator.normal(size=(2, 1, shape[1], 1, 1)) * 3
        y = (
            (image(shape, 0) + offsets[0]).astype(DTYPES[dtype]),
            (image(shape, 1) + offsets[1]).astype(DTYPES[dtype]),
        )
        named = {name: generator.normal(size=shape[1]).astype(np.float32) for name in ("scale", "shift")}
        named["added"] = image(shape, 9).astype(DTYPES[dtype])
        for whole in (False, True):
            got = run_fuse(device, operator, y, named, dtype, layout, whole)
            found = max(found, error(expected_fuse(operator, y, named), (got,), dtype))
    return found
