"""scconv::SRU_*: the kernels and the function bodies against float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.kernels.forms import SRU_FORMS, groups_for, image, sru_case
from tests.kernels.models import session, sru_model
from tests.kernels.reference import SRUCase, sru, worst

TOLERANCE = 1e-6
BODY_TOLERANCE = 2e-5
"""ONNX Runtime's InstanceNormalization takes its statistics in float."""
SHAPES = (
    # (N, C, H, W), groups wanted, size of s: odd sizes, one position, few channels, odd halves, samples apart.
    ((1, 8, 5, 7), 4, 1.0),
    ((2, 6, 4, 3), 4, 12.0),
    ((3, 2, 1, 2), 1, 1.0),
    ((1, 16, 33, 31), 2, 0.1),
    ((5, 10, 9, 3), 5, 5.0),
)


def run(
    case: SRUCase, x: np.ndarray, library: Path | None, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    model = sru_model(case, x.dtype.type)
    first, second = session(model, library, threads).run(None, {"x": x})
    return first, second


@pytest.mark.parametrize("operator", SRU_FORMS)
def test_kernel_agrees_with_float64(operator: str, instruction_set: str, library: Path) -> None:
    for seed, (shape, wanted, size) in enumerate(SHAPES):
        groups = groups_for(operator, shape[1], shape[2] * shape[3], wanted)
        case = sru_case(operator, shape[1], groups, seed, size)
        for dtype in (np.float32, np.float16):
            x = image(shape, seed, dtype)
            got = run(case, x, library)
            assert got[0].dtype == dtype
            assert worst(sru(case, x), got) < TOLERANCE, (shape, dtype)


@pytest.mark.parametrize("operator", SRU_FORMS)
def test_function_body_agrees_with_float64(operator: str) -> None:
    for seed, (shape, wanted, size) in enumerate(SHAPES[:3]):
        groups = groups_for(operator, shape[1], shape[2] * shape[3], wanted)
        case = sru_case(operator, shape[1], groups, seed, size)
        for dtype in (np.float32, np.float16):
            x = image(shape, seed, dtype)
            assert worst(sru(case, x), run(case, x, None)) < BODY_TOLERANCE, (shape, dtype)


def test_a_comparison_that_is_off_by_equality_shows_on_the_threshold(library: Path) -> None:
    """s is exactly the logit where x is the mean and the shift the logit; > and >= must part there."""
    x = np.tile(np.array([0.0, 1.0, 1.0, 2.0], np.float32), 8).reshape(1, 8, 2, 2)
    for logit in (0.0, 0.25):
        for norm in ("", "_std"):
            case = replace(sru_case("SRU_hard", 8, 2, 0), shift=np.full(8, logit, np.float32), logit=logit)
            strict = run(replace(case, operator=f"SRU_hard{norm}"), x, library)
            loose = run(replace(case, operator=f"SRU_hard{norm}_ge_within"), x, library)
            at_mean = (x == 1.0)[:, :4]
            # Cross: kept nowhere, both halves get the other's rest. Within: kept everywhere.
            assert (strict[0][at_mean] == 1.0).all()
            assert (loose[0][at_mean] == 2.0).all()
            assert (loose[1][at_mean] == 0.0).all()
            assert (
                run(replace(case, operator=f"SRU_hard{norm}_within"), x, library)[0][at_mean] == 0.0
            ).all()


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (lambda a, b: (b, a), "swapped halves"),
        (lambda a, b: (2 * a, b), "doubled"),
        (lambda a, b: (np.roll(a, 1, axis=1), b), "next channel"),
        (lambda a, b: (a, b * np.float32(1 + 1e-5)), "a little off"),
    ],
)
def test_broken_results_are_seen(broken, name: str, library: Path) -> None:
    case, x = sru_case("SRU_soft", 8, 4, 0), image((2, 8, 5, 7), 0)
    right = run(case, x, library)
    expected = sru(case, x)
    assert worst(expected, right) < TOLERANCE
    assert worst(expected, broken(*right)) > 5 * TOLERANCE, name


@pytest.mark.parametrize(
    "twin", ["SRU_soft_std", "SRU_soft_normalised", "SRU_soft_within", "SRU_hard", "SRU_complement_soft"]
)
def test_another_form_is_seen(twin: str, library: Path) -> None:
    case, x = sru_case("SRU_soft", 8, 4, 0), image((2, 8, 2, 1), 0)
    assert worst(sru(case, x), run(replace(case, operator=twin), x, library)) > 100 * TOLERANCE


@pytest.mark.parametrize("batch", [0, 1, 3, 4, 9])
def test_any_batch(batch: int, library: Path) -> None:
    case, x = sru_case("SRU_soft", 8, 4, 0), image((batch, 8, 20, 20), batch)
    got = run(case, x, library)
    assert got[0].shape == (batch, 4, 20, 20)
    assert batch == 0 or worst(sru(case, x), got) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 64, 56, 56), (2, 32, 80, 80), (6, 16, 64, 64)])
def test_results_do_not_depend_on_the_number_of_threads(shape: tuple[int, ...], library: Path) -> None:
    case, x = sru_case("SRU_soft", shape[1], 4, 0), image(shape, 0)
    one, many = run(case, x, library, threads=1), run(case, x, library, threads=3)
    np.testing.assert_array_equal(one[0], many[0])
    np.testing.assert_array_equal(one[1], many[1])
    assert worst(sru(case, x), one) < TOLERANCE


def test_a_mean_far_from_zero_costs_no_accuracy(library: Path) -> None:
    case = sru_case("SRU_soft", 8, 4, 0)
    x = (np.random.default_rng(0).normal(size=(1, 8, 40, 40)) + 3000).astype(np.float32)
    assert worst(sru(case, x), run(case, x, library)) < TOLERANCE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operator", SRU_FORMS)
def test_nan_and_infinity_as_in_the_standard_form(operator: str, value: float, library: Path) -> None:
    """One bad value makes its norm group NaN; what the gate makes of that is the body's business."""
    case, x = sru_case(operator, 4, 2, 0), image((2, 4, 5, 4), 0)
    x[0, 1, 2, 2] = value
    with np.errstate(all="ignore"):
        want, got = run(case, x, None), run(case, x, library)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_array_equal(np.isposinf(a), np.isposinf(b))
        ok = np.isfinite(a)
        np.testing.assert_allclose(b[ok], a[ok], rtol=1e-4, atol=1e-5)
    assert any(not np.isfinite(a).all() for a in want)


def test_one_value_per_group_is_nan_with_the_unbiased_deviation(library: Path) -> None:
    case, x = sru_case("SRU_soft_std", 2, 2, 0), image((1, 2, 1, 1), 0)
    assert all(np.isnan(y).all() for y in run(case, x, None))
    assert all(np.isnan(y).all() for y in run(case, x, library))


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 3, 2, 2), "cannot be cut"), ((1, 8, 3), "3 axes"), ((1, 6, 2, 2), "8 values for 6 channels")],
)
def test_what_does_not_fit_is_refused_in_words(shape: tuple[int, ...], said: str, library: Path) -> None:
    model = sru_model(sru_case("SRU_soft", 8, 1, 0), np.float32)
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(Exception, match=said):
        session(model, library).run(None, {"x": np.zeros(shape, np.float32)})


def test_calls_at_the_same_time_do_not_disturb_each_other(library: Path) -> None:
    case = sru_case("SRU_soft", 16, 4, 0)
    one = session(sru_model(case, np.float32), library, threads=2)
    images = [image((1 + i % 5, 16, 40, 31), i) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: tuple(one.run(None, {"x": x})), images))
    assert max(worst(sru(case, x), got) for x, got in zip(images, results, strict=True)) < TOLERANCE


def test_sessions_share_nothing(library: Path) -> None:
    """Two sessions of other shapes in turn: the scratch memory of one is not what the other computes with."""
    cases = [(sru_case("SRU_soft", c, 2, c), image((n, c, 30, 30), c)) for n, c in ((1, 8), (5, 16), (2, 4))]
    opened: list[ort.InferenceSession] = [session(sru_model(c, np.float32), library) for c, _ in cases]
    for _ in range(2):
        for (case, x), one in zip(cases, opened, strict=True):
            assert worst(sru(case, x), tuple(one.run(None, {"x": x}))) < TOLERANCE
