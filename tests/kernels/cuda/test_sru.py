"""``scconv::SRU_*`` in CUDA, emulated: against float64, in both layouts and all three types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.kernels.launch import last_width, sru_launch
from scconv_deploy.kernels.ptx import KernelSpec, Layout
from tests.kernels.cuda.conftest import SRU, TYPES, kernels
from tests.kernels.cuda.emulated import Emulated
from tests.kernels.cuda.operators import DTYPES, error, run_sru
from tests.kernels.forms import SRU_FORMS, groups_for, image, sru_case
from tests.kernels.models import session, sru_model
from tests.kernels.reference import sru

TOLERANCE = 2e-6  # of float32 statistics: the CPU kernels, which merge theirs in double, keep 1e-6
# Odd planes and channels, one value per plane, an odd number of groups (planar only), several rounds of loads.
SHAPES = (
    ((2, 16, 5, 7), 4),
    ((1, 6, 3, 3), 3),
    ((3, 10, 1, 1), 1),
    ((1, 12, 9, 9), 2),
    ((2, 14, 4, 4), 7),
    ((1, 4, 96, 97), 2),
    ((1, 64, 6, 6), 16),
    ((2, 2, 5, 5), 1),
)


def cases(operator: str, dtype: str, layout: Layout):
    for seed, (shape, wanted) in enumerate(SHAPES):
        groups = groups_for(operator, shape[1], shape[2] * shape[3], wanted)
        if layout is Layout.LAST and last_width(shape[1], groups, dtype) is None:
            continue
        if "std" in operator and np.prod(shape[1:]) // groups < 2:
            continue
        x = image(shape, seed).astype(DTYPES[dtype])
        yield sru_case(operator, shape[1], groups, seed), x


def judged(device: Emulated, operator: str, dtype: str, layout: Layout) -> float:
    found, count = 0.0, 0
    for case, x in cases(operator, dtype, layout):
        found = max(found, error(sru(case, x), run_sru(device, case, x, dtype, layout), dtype))
        count += 1
    assert count >= 3
    return found


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("operator", SRU)
def test_kernel_agrees_with_float64(operator: str, layout: Layout, emulated: Emulated) -> None:
    assert judged(emulated, operator, "fp32", layout) < TOLERANCE


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_rounded_once(dtype: str, layout: Layout, emulated: Emulated) -> None:
    assert judged(emulated, "SRU_soft", dtype, layout) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
def test_every_form_agrees_with_float64(dtype: str, tmp_path: Path) -> None:
    device = Emulated(tmp_path, kernels(SRU_FORMS, (), (dtype,)))
    for operator in SRU_FORMS:
        for layout in Layout:
            assert judged(device, operator, dtype, layout) < TOLERANCE, (operator, layout)


def test_groups_that_cross_channels(emulated: Emulated) -> None:
    """An unbiased deviation cuts groups from the flat vector: 4 groups of 6 channels, 5 of 10."""
    for channels, groups, side in ((6, 4, 6), (10, 4, 2), (6, 5, 5), (2, 3, 3)):
        case, x = sru_case("SRU_static_std", channels, groups, 3), image((2, channels, side, side), 3)
        assert error(sru(case, x), run_sru(emulated, case, x, "fp32", Layout.PLANAR), "fp32") < TOLERANCE


@pytest.mark.parametrize("layout", Layout)
def test_a_mean_far_from_zero_costs_no_digits(layout: Layout, emulated: Emulated) -> None:
    case = sru_case("SRU_hard_ge_within", 16, 4, 0)
    x = image((1, 16, 9, 9), 5) + np.float32(3000.0)
    got = run_sru(emulated, case, x, "fp32", layout)
    assert error(sru(case, x), got, "fp32") < TOLERANCE


@pytest.mark.parametrize("layout", Layout)
def test_a_constant_image_lies_on_the_edge(layout: Layout, emulated: Emulated) -> None:
    """xhat is 0 exactly, so s is the shift exactly, and `>=` keeps what `>` would not."""
    case = sru_case("SRU_hard_ge_within", 8, 2, 0)
    flat = type(case)(
        case.operator, 2, case.scale, np.zeros(8, np.float32), case.weight, case.mask, logit=0.0
    )
    x = np.full((1, 8, 5, 5), 1.1, np.float32)
    y_a, y_b = run_sru(emulated, flat, x, "fp32", layout)
    np.testing.assert_array_equal(y_a, 2 * x[:, :4])
    np.testing.assert_array_equal(y_b, 0 * x[:, :4])


def test_memory_that_is_not_aligned(emulated: Emulated) -> None:
    case, x = sru_case("SRU_soft", 8, 4, 0), image((2, 8, 8, 8), 2)
    want = run_sru(emulated, case, x, "fp32", Layout.PLANAR)
    launch = sru_launch("SRU_soft", "fp32", Layout.PLANAR, 2, 8, 64, case.attributes())
    for off in (1, 2, 3):
        moved = np.empty(x.size + off, np.float32)[off:].reshape(x.shape)
        moved[...] = x
        made = [np.empty(x.size // 2 + off, np.float32)[off:].reshape(2, 4, 8, 8) for _ in "ab"]
        constants = list(case.inputs().values())
        emulated.launch(launch.kernel, launch.grid, launch.block, [moved, *constants], launch.extras, made)
        for one, other in zip(want, made, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operator", SRU)
def test_nan_and_infinity_as_in_the_function_body(
    operator: str, value: float, layout: Layout, emulated: Emulated
) -> None:
    case, x = sru_case(operator, 8, 4, 1), image((2, 8, 5, 3), 1)
    x[0, 1, 2, 1] = value
    want = session(sru_model(case, np.float32), None).run(None, {"x": x})
    got = run_sru(emulated, case, x, "fp32", layout)
    for one, other in zip(want, got, strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        np.testing.assert_allclose(other[np.isfinite(one)], one[np.isfinite(one)], rtol=1e-5, atol=1e-5)
    assert not all(np.isfinite(one).all() for one in want)


@pytest.mark.parametrize("layout", Layout)
def test_results_do_not_depend_on_the_order_of_threads(layout: Layout, emulated: Emulated) -> None:
    case, x = sru_case("SRU_soft", 16, 4, 0), image((1, 16, 23, 23), 2)
    launch = sru_launch("SRU_soft", "fp32", layout, 1, 16, 529, case.attributes())
    made = []
    for order in (0, 1, 5):
        y = [np.empty((1, 8, 23, 23), np.float32) for _ in "ab"]
        given = [x, *case.inputs().values()]
        emulated.launch(launch.kernel, launch.grid, launch.block, given, launch.extras, y, order)
        made.append(y)
    for other in made[1:]:
        np.testing.assert_array_equal(made[0], other)


TWINS = (
    ("gate.cuh", "s >= logit", "s > logit", "> for >="),
    ("gate.cuh", "from_a.kept + from_b.kept", "from_b.rest + from_a.rest", "swapped halves"),
    ("gate.cuh", "constants.shift[index] -", "-", "the shift dropped"),
    ("gate.cuh", "all.m2 / all.count", "all.m2 / (all.count - 1.0f)", "the other variance"),
    (
        "numbers.cuh",
        "into.m2 += other.m2 + delta * delta * into.count * share",
        "into.m2 += other.m2",
        "no merge",
    ),
    ("sru_planar.cuh", "(i + half) / plane", "i / plane", "the wrong channel"),
)


@pytest.mark.parametrize(
    ("header", "old", "new", "name"),
    [pytest.param(*t, id=t[3], marks=pytest.mark.slow if i > 1 else ()) for i, t in enumerate(TWINS)],
)
def test_broken_twins_are_seen(header: str, old: str, new: str, name: str, tmp_path: Path) -> None:
    broken = Emulated(tmp_path, [KernelSpec("SRU_hard_ge_within", "fp32")], [(header, old, new)])
    if name == "> for >=":
        with pytest.raises(AssertionError):
            test_a_constant_image_lies_on_the_edge(Layout.PLANAR, broken)
        return
    assert judged(broken, "SRU_hard_ge_within", "fp32", Layout.PLANAR) > 2 * TOLERANCE


def test_a_missing_barrier_is_seen(tmp_path: Path) -> None:
    """Without it, a thread that runs early reads sums that are not there yet."""
    edit = (
        "sru_planar.cuh",
        "of_warp[warp] = mine;\n  __syncthreads();",
        "of_warp[warp] = mine;",
    )
    broken = Emulated(tmp_path, [KernelSpec("SRU_hard_ge_within", "fp32")], [edit])
    assert judged(broken, "SRU_hard_ge_within", "fp32", Layout.PLANAR) > 2 * TOLERANCE


def test_a_barrier_that_not_all_reach_is_an_error(tmp_path: Path) -> None:
    edit = ("sru_planar.cuh", "  __syncthreads();  // the last", "  if (warp) __syncthreads();  // the last")
    broken = Emulated(tmp_path, [KernelSpec("SRU_hard_ge_within", "fp32")], [edit])
    with pytest.raises(RuntimeError, match="never reach"):
        judged(broken, "SRU_hard_ge_within", "fp32", Layout.PLANAR)


@pytest.mark.parametrize("layout", Layout)
def test_one_result_instead_of_halves(layout: Layout, emulated: Emulated) -> None:
    for case, x in cases("SRU_soft", "fp32", layout):
        halves = run_sru(emulated, case, x, "fp32", layout)
        whole = run_sru(emulated, case, x, "fp32", layout, whole=True)
        for one, other in zip(halves, whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
