"""scconv::CRUFuse_*: the kernels and the function bodies against float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.forms import FUSE_FORMS, image
from tests.kernels.models import fuse_model, session
from tests.kernels.reference import fuse, worst

TOLERANCE = 1e-6
SHAPES = ((1, 8, 5, 7), (2, 6, 4, 3), (3, 1, 1, 1), (1, 16, 33, 31), (5, 5, 9, 9))


def constants(channels: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(channels)
    return {name: generator.normal(size=channels).astype(np.float32) for name in ("scale", "shift")}


def pieces(shape: tuple[int, ...], dtype: type[np.floating] = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Means that differ from channel to channel, so that the softmax matters."""
    offsets = np.random.default_rng(7).normal(size=(2, 1, shape[1], 1, 1)) * 3
    return tuple((image(shape, i) + offsets[i]).astype(dtype) for i in (0, 1))  # type: ignore[return-value]


def run(
    operator: str, y: tuple[np.ndarray, np.ndarray], library: Path | None, threads: int = 1
) -> np.ndarray:
    model = fuse_model(operator, constants(y[0].shape[1]), y[0].dtype.type)
    given = dict(zip(("y1", "y2"), y, strict=True)) | added(operator, y[0])
    out: np.ndarray = session(model, library, threads).run(None, given)[0]
    return out


def added(operator: str, y1: np.ndarray) -> dict[str, np.ndarray]:
    """The residual, where the operator takes one."""
    return {"added": image(y1.shape, 5, y1.dtype.type)} if "add" in operator.split("_") else {}


def expected(operator: str, y: tuple[np.ndarray, np.ndarray]):
    named = constants(y[0].shape[1])
    return fuse(operator, y[0], y[1], named["scale"], named["shift"], **added(operator, y[0]))


@pytest.mark.parametrize("operator", FUSE_FORMS)
def test_kernel_agrees_with_float64(operator: str, instruction_set: str, library: Path) -> None:
    for shape in SHAPES:
        for dtype in (np.float32, np.float16):
            y = pieces(shape, dtype)
            got = run(operator, y, library)
            assert got.dtype == dtype
            assert worst(expected(operator, y), (got,)) < TOLERANCE, (shape, dtype)


@pytest.mark.parametrize("operator", FUSE_FORMS)
def test_function_body_agrees_with_float64(operator: str) -> None:
    for shape in SHAPES:
        for dtype in (np.float32, np.float16):
            y = pieces(shape, dtype)
            assert worst(expected(operator, y), (run(operator, y, None),)) < 2e-6, (shape, dtype)


@pytest.mark.parametrize("batch", [0, 1, 3, 4, 9])
def test_any_batch(batch: int, library: Path) -> None:
    y = pieces((batch, 8, 20, 20))
    got = run("CRUFuse_joint_affine", y, library)
    assert got.shape == y[0].shape
    assert batch == 0 or worst(expected("CRUFuse_joint_affine", y), (got,)) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 64, 56, 56), (6, 16, 64, 64)])
def test_results_do_not_depend_on_the_number_of_threads(shape: tuple[int, ...], library: Path) -> None:
    y = pieces(shape)
    one = run("CRUFuse_joint", y, library, threads=1)
    np.testing.assert_array_equal(one, run("CRUFuse_joint", y, library, threads=3))
    assert worst(expected("CRUFuse_joint", y), (one,)) < TOLERANCE


@pytest.mark.parametrize("operator", ["CRUFuse_joint", "CRUFuse_pair"])
def test_means_that_overflow_exp_give_weights_of_one_and_zero(operator: str, library: Path) -> None:
    y = np.full((1, 2, 3, 3), 500.0, np.float32), np.full((1, 2, 3, 3), -500.0, np.float32)
    np.testing.assert_allclose(run(operator, y, library), run(operator, y, None), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operator", [f for f in FUSE_FORMS if "relu" not in f])
def test_nan_and_infinity_as_in_the_standard_form(operator: str, value: float, library: Path) -> None:
    y = pieces((2, 4, 5, 3))
    y[0][0, 1, 2, 2] = value
    want, got = run(operator, y, None), run(operator, y, library)
    np.testing.assert_array_equal(np.isnan(want), np.isnan(got))
    ok = np.isfinite(want)
    np.testing.assert_allclose(got[ok], want[ok], rtol=1e-5, atol=1e-6)
    assert not ok.all()


@pytest.mark.parametrize(
    ("twin", "name"),
    [
        (lambda y, k: np.roll(run("CRUFuse_joint_affine", y, k), 1, axis=1), "next channel"),
        (lambda y, k: run("CRUFuse_joint_affine", (y[0], y[0]), k), "one piece twice"),
        (lambda y, k: 2 * run("CRUFuse_joint_affine", y, k), "doubled"),
        (lambda y, k: run("CRUFuse_joint", y, k), "BatchNorm left out"),
        (lambda y, k: run("CRUFuse_pair_affine", y, k), "the other softmax"),
        (lambda y, k: run("CRUFuse_joint_affine_relu", y, k), "a ReLU too many"),
        (lambda y, k: run("CRUFuse_joint_affine_add", y, k), "a residual too many"),
        (lambda y, k: run("CRUFuse_joint_affine", y, k) * np.float32(1 + 1e-4), "a little off"),
    ],
)
def test_broken_results_are_seen(twin, name: str, library: Path) -> None:
    y = pieces((2, 8, 5, 7))
    want = expected("CRUFuse_joint_affine", y)
    assert worst(want, (run("CRUFuse_joint_affine", y, library),)) < TOLERANCE
    assert worst(want, (twin(y, library),)) > 2 * TOLERANCE, name


def test_pieces_of_two_shapes_are_refused_in_words(library: Path) -> None:
    model = fuse_model("CRUFuse_joint", {}, np.float32)
    for value in model.graph.input:
        value.type.tensor_type.ClearField("shape")
    one = session(model, library)
    with pytest.raises(Exception, match="y1 and y2 are not of one"):
        one.run(None, {"y1": np.zeros((1, 2, 3, 3), np.float32), "y2": np.zeros((1, 2, 3, 4), np.float32)})
