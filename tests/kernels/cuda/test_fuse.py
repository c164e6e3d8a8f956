"""``scconv::CRUFuse_*`` in CUDA, as its two kernels, emulated: against float64, in both layouts."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.kernels.ptx import Layout
from tests.kernels.cuda.conftest import FUSE, TYPES, kernels
from tests.kernels.cuda.emulated import Emulated
from tests.kernels.cuda.operators import DTYPES, error, expected_fuse, run_fuse
from tests.kernels.forms import image
from tests.kernels.models import fuse_model, session

TOLERANCE = 1e-6
SHAPES = ((1, 8, 5, 7), (2, 6, 4, 3), (3, 1, 1, 1), (1, 16, 33, 31), (5, 5, 9, 9), (1, 264, 3, 3))
FORMS = tuple(
    "_".join([kind, *flags])
    for kind in ("joint", "pair")
    for count in range(4)
    for flags in combinations(("affine", "add", "relu"), count)
)


def pieces(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Means that differ from channel to channel, so that the softmax matters."""
    offsets = np.random.default_rng(7).normal(size=(2, 1, shape[1], 1, 1)) * 3
    return tuple((image(shape, i) + offsets[i]).astype(DTYPES[dtype]) for i in (0, 1))  # type: ignore[return-value]


def constants(shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(shape[1])
    named = {name: generator.normal(size=shape[1]).astype(np.float32) for name in ("scale", "shift")}
    return {**named, "added": image(shape, 9).astype(DTYPES[dtype])}


def judged(device: Emulated, form: str, dtype: str, layout: Layout) -> float:
    found = 0.0
    for shape in SHAPES:
        y, named = pieces(shape, dtype), constants(shape, dtype)
        got = run_fuse(device, f"CRUFuse_{form}", y, named, dtype, layout)
        found = max(found, error(expected_fuse(f"CRUFuse_{form}", y, named), (got,), dtype))
    return found


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("form", FUSE)
def test_kernels_agree_with_float64(form: str, layout: Layout, emulated: Emulated) -> None:
    assert judged(emulated, form, "fp32", layout) < TOLERANCE


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_rounded_once(dtype: str, layout: Layout, emulated: Emulated) -> None:
    assert judged(emulated, FUSE[0], dtype, layout) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
def test_every_form_agrees_with_float64(dtype: str, tmp_path: Path) -> None:
    device = Emulated(tmp_path, kernels((), FORMS, (dtype,)))
    for form in FORMS:
        for layout in Layout:
            assert judged(device, form, dtype, layout) < TOLERANCE, (form, layout)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["joint", "pair"])
def test_nan_and_infinity_as_in_the_function_body(
    form: str, value: float, layout: Layout, emulated: Emulated
) -> None:
    shape = (2, 4, 5, 3)
    y = pieces(shape, "fp32")
    y[0][0, 1, 2, 2] = value
    model = fuse_model(f"CRUFuse_{form}", {}, np.float32)
    want = session(model, None).run(None, {"y1": y[0], "y2": y[1]})[0]
    got = run_fuse(emulated, f"CRUFuse_{form}", y, constants(shape, "fp32"), "fp32", layout)
    np.testing.assert_array_equal(np.isnan(want), np.isnan(got))
    ok = np.isfinite(want)
    np.testing.assert_allclose(got[ok], want[ok], rtol=1e-5, atol=1e-6)
    assert not ok.all()


@pytest.mark.parametrize("form", ["joint", "pair"])
def test_means_that_overflow_exp_give_weights_of_one_and_zero(form: str, emulated: Emulated) -> None:
    y = np.full((1, 2, 3, 3), 500.0, np.float32), np.full((1, 2, 3, 3), -500.0, np.float32)
    model = fuse_model(f"CRUFuse_{form}", {}, np.float32)
    want = session(model, None).run(None, {"y1": y[0], "y2": y[1]})[0]
    got = run_fuse(emulated, f"CRUFuse_{form}", y, {}, "fp32", Layout.PLANAR)
    np.testing.assert_allclose(got, want, rtol=1e-6)


TWINS = (
    ("pool.cuh", "channel < channels ? y1 : y2", "y1", "one piece twice"),
    (
        "pool.cuh",
        "sum += values[k];\n        other += values[k + 1]",
        "sum += values[k]",
        "half of the values",
    ),
    ("mix.cuh", "value += mixed.shift", "value += 0.0f", "the shift dropped"),
    ("mix.cuh", "means.at(means.channels + channel)", "means.at(channel)", "one mean twice"),
    ("mix.cuh", "i + k >= border", "false", "a channel border passed over"),
)


@pytest.mark.parametrize(
    ("header", "old", "new", "name"),
    [pytest.param(*t, id=t[3], marks=pytest.mark.slow if i > 1 else ()) for i, t in enumerate(TWINS)],
)
def test_broken_twins_are_seen(header: str, old: str, new: str, name: str, tmp_path: Path) -> None:
    specs = [s for s in kernels((), FUSE[:1], ("fp32",)) if s.layout is Layout.PLANAR]
    broken = Emulated(tmp_path, specs, [(header, old, new)])
    assert judged(broken, FUSE[0], "fp32", Layout.PLANAR) > 2 * TOLERANCE, name


@pytest.mark.parametrize("layout", Layout)
def test_one_tensor_instead_of_two_pieces(layout: Layout, emulated: Emulated) -> None:
    operator = "CRUFuse_joint_affine_relu"
    for shape in SHAPES:
        y, named = pieces(shape, "fp32"), constants(shape, "fp32")
        whole = run_fuse(emulated, operator, y, named, "fp32", layout, whole=True)
        assert error(expected_fuse(operator, y, named), (whole,), "fp32") < TOLERANCE
