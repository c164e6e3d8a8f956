"""The kernels on ONNX Runtime's blocked layout: every form against float64, and what else holds for the planar ones.

Tensors are put into blocks by NumPy, so nothing here hangs on what ONNX Runtime's own block is on this CPU.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.forms import FUSE_FORMS, SRU_FORMS, image, sru_case
from tests.kernels.models import from_blocks, fuse_model, in_blocks, session, sru_model
from tests.kernels.reference import SRUCase, fuse, sru, worst

TOLERANCE = 1e-6
BLOCKS = (8, 16)
SRU_SHAPES = (
    # Blocks of channels in half of C, (N, H, W), groups per block of channels: parts of a block, whole ones, all.
    (1, (1, 5, 7), 4.0, 1.0),
    (3, (2, 4, 3), 0.5, 12.0),
    (2, (5, 1, 2), 0.25, 0.1),
    (1, (1, 23, 29), 0.5, 1.0),
)


def run_sru(
    case: SRUCase, x: np.ndarray, block: int, library: Path, threads: int = 1
) -> tuple[np.ndarray, ...]:
    model = session(sru_model(case, np.float32, block=block), library, threads)
    return tuple(from_blocks(y, block) for y in model.run(None, {"x": in_blocks(x, block)}))


def run_fuse(
    operator: str, given: dict[str, np.ndarray], block: int, library: Path, threads: int = 1
) -> np.ndarray:
    named = {k: v for k, v in given.items() if k in ("scale", "shift")}
    model = session(fuse_model(operator, named, np.float32, block=block), library, threads)
    inputs = {k: in_blocks(v, block) for k, v in given.items() if k not in named}
    return from_blocks(model.run(None, inputs)[0], block)


def fuse_case(operator: str, shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Means that differ from channel to channel, so that the softmax matters."""
    generator = np.random.default_rng(seed)
    offset = (generator.normal(size=(1, shape[1], 1, 1)) * 3).astype(np.float32)
    more = {"added": image(shape, seed + 2)} if "add" in operator.split("_") else {}
    named = {k: generator.normal(size=shape[1]).astype(np.float32) for k in ("scale", "shift")}
    return {"y1": image(shape, seed) + offset, "y2": image(shape, seed + 1), **named, **more}


@pytest.mark.parametrize("operator", SRU_FORMS)
def test_sru_agrees_with_float64(operator: str, instruction_set: str, library: Path) -> None:
    for block in BLOCKS:
        for seed, (blocks, (n, h, w), per_block, size) in enumerate(SRU_SHAPES):
            channels = 2 * blocks * block
            case = sru_case(operator, channels, max(1, int(2 * blocks * per_block)), seed, size)
            x = image((n, channels, h, w), seed)
            assert worst(sru(case, x), run_sru(case, x, block, library)) < TOLERANCE, (block, seed)


@pytest.mark.parametrize("operator", FUSE_FORMS)
def test_fuse_agrees_with_float64(operator: str, instruction_set: str, library: Path) -> None:
    for block in BLOCKS:
        for shape in ((1, block, 5, 7), (2, 3 * block, 4, 3), (5, 2 * block, 1, 1), (1, block, 29, 31)):
            made = fuse_case(operator, shape)
            assert worst(fuse(operator, **made), (run_fuse(operator, made, block, library),)) < TOLERANCE, (
                shape
            )


SETTINGS = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
EXTENTS = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 25), st.integers(1, 25))


@SETTINGS
@given(
    operator=st.sampled_from(SRU_FORMS),
    extents=EXTENTS,
    block=st.sampled_from(BLOCKS),
    wanted=st.integers(1, 40),
    size=st.sampled_from([0.01, 0.3, 2.0, 8.0]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_any_sru(operator, extents, block, wanted, size, threads, seed, library: Path) -> None:
    batch, half, height, width = extents
    channels = 2 * half * block
    groups = next(g for g in range(min(wanted, channels), 0, -1) if channels % g == 0)
    x = image((batch, channels, height, width), seed)
    if channels * height * width // groups < 2:
        x = np.concatenate([x, x + 1], axis=3).astype(np.float32)
    case = sru_case(operator, channels, groups, seed, size)
    assert worst(sru(case, x), run_sru(case, x, block, library, threads)) < TOLERANCE


@SETTINGS
@given(
    operator=st.sampled_from(FUSE_FORMS),
    extents=EXTENTS,
    block=st.sampled_from(BLOCKS),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_any_fuse(operator, extents, block, threads, seed, library: Path) -> None:
    batch, blocks, height, width = extents
    made = fuse_case(operator, (batch, blocks * block, height, width), seed)
    assert worst(fuse(operator, **made), (run_fuse(operator, made, block, library, threads),)) < TOLERANCE


@pytest.mark.parametrize("batch", [0, 1, 3, 4, 9])
def test_any_batch(batch: int, library: Path) -> None:
    case, x = sru_case("SRU_soft", 32, 4, 0), image((batch, 32, 20, 20), batch)
    got = run_sru(case, x, 16, library)
    assert got[0].shape == (batch, 16, 20, 20)
    assert batch == 0 or worst(sru(case, x), got) < TOLERANCE
    made = fuse_case("CRUFuse_joint_add", (batch, 16, 20, 20))
    out = run_fuse("CRUFuse_joint_add", made, 16, library)
    assert batch == 0 or worst(fuse("CRUFuse_joint_add", **made), (out,)) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 64, 56, 56), (6, 32, 50, 50)])
@pytest.mark.parametrize("groups", [4, 16])
def test_results_do_not_depend_on_the_number_of_threads(
    shape: tuple[int, ...], groups: int, library: Path
) -> None:
    case, x = sru_case("SRU_soft", shape[1], groups, 0), image(shape, 0)
    one, many = (run_sru(case, x, 16, library, threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, many)
    assert worst(sru(case, x), one) < TOLERANCE
    made = fuse_case("CRUFuse_joint_affine", shape)
    mixed = [run_fuse("CRUFuse_joint_affine", made, 16, library, threads) for threads in (1, 3)]
    np.testing.assert_array_equal(mixed[0], mixed[1])


def test_a_mean_far_from_zero_costs_no_accuracy(library: Path) -> None:
    for groups in (2, 8):
        case = sru_case("SRU_soft", 32, groups, 0)
        x = (np.random.default_rng(0).normal(size=(1, 32, 40, 40)) + 3000).astype(np.float32)
        assert worst(sru(case, x), run_sru(case, x, 16, library)) < TOLERANCE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("groups", [2, 16])
@pytest.mark.parametrize("operator", SRU_FORMS)
def test_nan_and_infinity_as_in_the_standard_form(
    operator: str, groups: int, value: float, library: Path
) -> None:
    case, x = sru_case(operator, 32, groups, 0), image((1, 32, 5, 4), 0)
    x[0, 1, 2, 2] = value
    want = session(sru_model(case, np.float32), None).run(None, {"x": x})
    for a, b in zip(want, run_sru(case, x, 16, library), strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_array_equal(np.isposinf(a), np.isposinf(b))
        ok = np.isfinite(a)
        np.testing.assert_allclose(b[ok], a[ok], rtol=1e-4, atol=1e-4)
    assert any(not np.isfinite(a).all() for a in want)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operator", FUSE_FORMS)
def test_nan_and_infinity_in_the_fuse(operator: str, value: float, library: Path) -> None:
    made = fuse_case(operator, (2, 16, 5, 3))
    made["y1"][0, 1, 2, 2] = value
    inputs = {k: v for k, v in made.items() if k not in ("scale", "shift")}
    want = session(fuse_model(operator, made, np.float32), None).run(None, inputs)[0]
    got = run_fuse(operator, made, 16, library)
    np.testing.assert_array_equal(np.isnan(want), np.isnan(got))
    ok = np.isfinite(want)
    np.testing.assert_allclose(got[ok], want[ok], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (lambda c, x, k: run_sru(c, x, 16, k)[::-1], "swapped halves"),
        (lambda c, x, k: tuple(2 * y for y in run_sru(c, x, 16, k)), "doubled"),
        (lambda c, x, k: tuple(np.roll(y, 1, axis=1) for y in run_sru(c, x, 16, k)), "next channel"),
        (lambda c, x, k: tuple(np.roll(y, 1, axis=3) for y in run_sru(c, x, 16, k)), "next position"),
        (lambda c, x, k: wrong_block(c, x, k), "another block"),
    ],
)
def test_broken_results_are_seen(broken, name: str, library: Path) -> None:
    case, x = sru_case("SRU_soft", 32, 4, 0), image((2, 32, 5, 7), 0)
    assert worst(sru(case, x), run_sru(case, x, 16, library)) < TOLERANCE
    assert worst(sru(case, x), broken(case, x, library)) > 100 * TOLERANCE, name


def wrong_block(case: SRUCase, x: np.ndarray, library: Path) -> tuple[np.ndarray, ...]:
    """Blocks of 16 read as blocks of 8."""
    model = session(sru_model(case, np.float32, block=8), library)
    return tuple(from_blocks(y, 16) for y in model.run(None, {"x": in_blocks(x, 16)}))


@pytest.mark.parametrize(
    ("channels", "groups", "said"), [(48, 4, "halves of 48 channels"), (32, 5, "cannot be cut")]
)
def test_what_does_not_fill_blocks_is_refused_in_words(
    channels: int, groups: int, said: str, library: Path
) -> None:
    model = session(sru_model(sru_case("SRU_soft", channels, groups, 0), np.float32, block=16), library)
    with pytest.raises(Exception, match=said):
        model.run(None, {"x": np.zeros((1, channels, 2, 5), np.float32)})


def test_a_fuse_that_does_not_fill_blocks_is_refused_in_words(library: Path) -> None:
    model = session(fuse_model("CRUFuse_joint", {}, np.float32, block=16), library)
    y = np.zeros((1, 24, 2, 2), np.float32)
    with pytest.raises(Exception, match="24 channels cannot be cut into blocks of 16"):
        model.run(None, {"y1": y, "y2": y})


@pytest.mark.parametrize(("block", "dtype"), [(7, np.float32), (16, np.float16), (-16, np.float32)])
def test_blocks_that_have_no_kernel_are_refused(block: int, dtype: type[np.floating], library: Path) -> None:
    with pytest.raises(Exception, match=f"blocks of {block} channels are not possible"):
        session(sru_model(sru_case("SRU_soft", 32, 4, 0), dtype, block=block), library)


def test_calls_at_the_same_time_do_not_disturb_each_other(library: Path) -> None:
    case = sru_case("SRU_soft", 32, 8, 0)
    one = session(sru_model(case, np.float32, block=16), library, threads=2)
    images = [image((1 + i % 5, 32, 20, 31), i) for i in range(16)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: one.run(None, {"x": in_blocks(x, 16)}), images))
    errors = [
        worst(sru(case, x), tuple(from_blocks(y, 16) for y in got))
        for x, got in zip(images, results, strict=True)
    ]
    assert max(errors) < TOLERANCE
