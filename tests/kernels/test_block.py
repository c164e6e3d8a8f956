"""The whole SCConv block in one kernel: every form against float64, and what else holds for its parts.

Small planes are pooled from the results and larger ones by linearity; shapes below are of both kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from tests.kernels.block_cases import BlockCase, block_case, block_image, block_model, expected
from tests.kernels.forms import FUSE_FORMS, SRU_FORMS
from tests.kernels.models import from_blocks, fuse_model, in_blocks, session, sru_model
from tests.kernels.reference import worst

TOLERANCE = 1e-6
BLOCKS = (8, 16)
POOLED_FROM_RESULTS, POOLED_BY_LINEARITY = (1, 5, 7), (2, 15, 13)
WIDTHS: tuple[dict[str, int | bool], ...] = (
    {},
    {"half": 2, "up": 2, "low": 1},
    {"half": 2, "up": 3, "low": 2, "per_group": 3, "groups": 1},
    {"half": 3, "up": 3, "low": 2, "per_group": 3, "up_inputs": 2},
    {"kernel": 1},
    {"kernel": 5, "norm_groups": 16},
    {"groups": 4, "up": 2, "copies": False},
)


def run(
    case: BlockCase,
    images: Mapping[str, np.ndarray],
    block: int,
    library: Path,
    threads: int = 1,
    **changed: object,
) -> np.ndarray:
    model = session(block_model(case, block, changed), library, threads)
    return from_blocks(model.run(None, {k: in_blocks(v, block) for k, v in images.items()})[0], block)


def error(case: BlockCase, images: Mapping[str, np.ndarray], got: np.ndarray) -> float:
    return worst(expected(case, images), (got,))


@pytest.mark.parametrize("operator", SRU_FORMS)
def test_every_gate_agrees_with_float64(operator: str, instruction_set: str, library: Path) -> None:
    for i, block in enumerate(BLOCKS):
        case = block_case(operator, FUSE_FORMS[i], block, half=2, norm_groups=(4, 32)[i], seed=i)
        images = block_image(case, POOLED_BY_LINEARITY, seed=i)
        assert error(case, images, run(case, images, block, library)) < TOLERANCE, block


@pytest.mark.parametrize("fuse", FUSE_FORMS)
def test_every_fuse_agrees_with_float64(fuse: str, instruction_set: str, library: Path) -> None:
    for block in BLOCKS:
        case = block_case("SRU_soft", fuse, block)
        for extents in (POOLED_FROM_RESULTS, POOLED_BY_LINEARITY):
            images = block_image(case, extents)
            assert error(case, images, run(case, images, block, library)) < TOLERANCE, (block, extents)


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize(
    "extents", [(2, 1, 1), (3, 7, 7), (1, 29, 31), (5, 14, 14), (2, 1, 40), (2, 130, 1), (1, 3, 26)]
)
def test_every_shape_agrees_with_float64(
    widths: dict[str, int], extents: tuple[int, int, int], instruction_set: str, library: Path
) -> None:
    for block in BLOCKS:
        case = block_case("SRU_soft", "CRUFuse_joint_affine_add_relu", block, **widths)
        images = block_image(case, extents)
        assert error(case, images, run(case, images, block, library)) < TOLERANCE, block


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    operator=st.sampled_from(SRU_FORMS),
    fuse=st.sampled_from(FUSE_FORMS),
    extents=st.tuples(st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, 25), st.integers(1, 25)),
    block=st.sampled_from(BLOCKS),
    widths=st.fixed_dictionaries(
        {
            "half": st.integers(1, 3),
            "up": st.integers(1, 3),
            "low": st.integers(1, 2),
            "per_group": st.integers(1, 3),
            "groups": st.sampled_from([1, 2, 4]),
            "kernel": st.sampled_from([1, 3, 5]),
            "norm_groups": st.sampled_from([1, 2, 8, 16]),
        }
    ),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_any_block(operator, fuse, extents, block, widths, threads, seed, library: Path) -> None:
    if widths["up"] * block % widths["groups"]:
        widths = widths | {"groups": 1}
    case = block_case(operator, fuse, block, seed=seed, **widths)
    # A norm group of one value has no deviation.
    n, h, w = extents
    images = block_image(case, (n, h, w + 1), seed)
    assert error(case, images, run(case, images, block, library, threads)) < TOLERANCE


@pytest.mark.parametrize("batch", [0, 1, 3, 8])
def test_any_batch(batch: int, library: Path) -> None:
    case = block_case("SRU_hard", "CRUFuse_pair_add", 16, half=2)
    images = (
        block_image(case, (batch, 12, 10), batch) if batch else {"x": np.zeros((0, 64, 12, 10), np.float32)}
    )
    images.setdefault("added", np.zeros((0, 32, 12, 10), np.float32))
    got = run(case, images, 16, library, 2)
    assert got.shape == (batch, 32, 12, 10)
    assert batch == 0 or error(case, images, got) < TOLERANCE


@pytest.mark.parametrize("extents", [(1, 7, 7), (1, 56, 56), (3, 28, 28), (6, 14, 14), (5, 30, 30)])
def test_results_do_not_depend_on_the_number_of_threads(extents: tuple[int, int, int], library: Path) -> None:
    case = block_case("SRU_soft", "CRUFuse_joint_affine", 16, half=2, per_group=2)
    images = block_image(case, extents)
    one, many = (run(case, images, 16, library, threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, many)
    assert error(case, images, one) < TOLERANCE


def test_samples_do_not_depend_on_their_batch(library: Path) -> None:
    case = block_case("SRU_soft", "CRUFuse_joint_affine", 16)
    for h, w in ((5, 7), (20, 20)):
        images = block_image(case, (6, h, w))
        together = run(case, images, 16, library)
        np.testing.assert_array_equal(together[2:3], run(case, {"x": images["x"][2:3]}, 16, library))


def test_memory_of_other_layers_is_not_seen(library: Path) -> None:
    """Every layer of a thread works in the same memory; the zeros around a plane must be its own."""
    wide = block_case("SRU_soft", "CRUFuse_joint", 16, half=2, up=2, kernel=5)
    case = block_case("SRU_soft", "CRUFuse_joint", 16)
    for extents in ((1, 9, 9), (1, 20, 23)):
        images, before = block_image(case, extents), block_image(wide, (1, 31, 24))
        want = run(case, images, 16, library)
        run(wide, before, 16, library)
        np.testing.assert_array_equal(run(case, images, 16, library), want)


def in_parts(case: BlockCase, images: Mapping[str, np.ndarray]) -> np.ndarray:
    """The block in float32 by ONNX Runtime's standard operators for both units and torch's convolutions."""
    w = case.weights
    y = np.concatenate(session(sru_model(case.unit, np.float32), None).run(None, {"x": images["x"]}), 1)
    taken = w["squeeze_up"].shape[1]
    up = convolved(y[:, :taken], w["squeeze_up"], w["squeeze_up_bias"])
    low = convolved(y[:, taken:], w["squeeze_low"], w["squeeze_low_bias"])
    y1 = convolved(up, w["gwc"], w["y1_bias"], case.groups)
    own, rows = up.shape[1] // case.groups, case.outputs // case.groups
    for g in range(case.groups):
        others = [c for c in range(up.shape[1]) if c // own != g]
        mine = slice(g * rows, (g + 1) * rows)
        y1[:, mine] += convolved(up[:, others], w["pwc1"][mine][:, others], np.zeros(rows, np.float32))
    y2 = convolved(low, w["y2"][: case.copied_from], w["y2_bias"][: case.copied_from])
    given = {
        "y1": y1,
        "y2": np.concatenate([y2, low], 1),
        **{k: v for k, v in images.items() if k == "added"},
    }
    return session(fuse_model(case.fuse, w, np.float32), None).run(None, given)[0]


def convolved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int = 1) -> np.ndarray:
    tensors = [torch.from_numpy(np.ascontiguousarray(t)) for t in (x, weight, bias)]
    return conv2d(*tensors, padding=weight.shape[2] // 2, groups=groups).numpy()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "operator", ["SRU_hard", "SRU_soft", "SRU_complement_soft_ge", "SRU_static_normalised"]
)
@pytest.mark.parametrize("fuse", ["CRUFuse_joint_affine", "CRUFuse_pair_relu"])
@pytest.mark.parametrize("extents", [POOLED_FROM_RESULTS, (5, 15, 13), POOLED_BY_LINEARITY])
def test_nan_and_infinity_as_in_its_parts(
    fuse: str, operator: str, value: float, extents: tuple[int, int, int], library: Path
) -> None:
    """The other samples of the batch stay finite, and are pooled as ever."""
    case = block_case(operator, fuse, 16)
    images = block_image(case, extents)
    images["x"][0, 1, 2, 2] = value
    want, got = in_parts(case, images), run(case, images, 16, library)
    assert not np.isfinite(want[0]).all()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isposinf(got), np.isposinf(want))
    ok = np.isfinite(want)
    np.testing.assert_allclose(got[ok], want[ok], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extents", [POOLED_FROM_RESULTS, POOLED_BY_LINEARITY])
@pytest.mark.parametrize(
    "broken",
    [
        lambda case, images, library: 2 * run(case, images, 16, library),
        lambda case, images, library: np.roll(run(case, images, 16, library), 1, axis=1),
        lambda case, images, library: np.roll(run(case, images, 16, library), 1, axis=3),
        lambda case, images, library: run(case, images, 16, library, sru="SRU_complement_soft"),
        lambda case, images, library: run(case, images, 16, library, fuse="CRUFuse_pair_affine"),
        lambda case, images, library: run(case, images, 16, library, groups=2),
        lambda case, images, library: run(without(case, "pwc1"), images, 16, library),
        lambda case, images, library: run(without(case, "y1_bias"), images, 16, library),
        lambda case, images, library: run(without(case, "y2_bias"), images, 16, library),
        lambda case, images, library: run(without(case, "squeeze_low_bias"), images, 16, library),
    ],
)
def test_broken_results_are_seen(broken, extents: tuple[int, int, int], library: Path) -> None:
    case = block_case("SRU_soft", "CRUFuse_joint_affine", 16)
    images = block_image(case, extents)
    assert error(case, images, run(case, images, 16, library)) < TOLERANCE
    assert error(case, images, broken(case, images, library)) > 100 * TOLERANCE


def without(case: BlockCase, name: str) -> BlockCase:
    return replace(case, weights={**case.weights, name: np.zeros_like(case.weights[name])})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sru": "SRU_none"}, "there is no SRU_none"),
        ({"fuse": "SRU_soft"}, "or no SRU_soft"),
        ({"kernel": 2}, "a kernel of 2"),
        ({"kernel": 99}, "a kernel of 99"),
        ({"gwc_groups": 0}, "4 and 0 groups"),
        ({"block": 12}, "blocks of 12 channels are not possible"),
        ({"block": None}, "block. is missing"),
    ],
)
def test_attributes_that_cannot_be_are_refused_in_words(
    changed: dict[str, object], said: str, library: Path
) -> None:
    case = block_case("SRU_soft", "CRUFuse_joint", 16)
    with pytest.raises(Exception, match=said):
        session(block_model(case, 16, changed), library)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gwc_groups": 4}, "do not fill blocks of 16"),
        ({"groups": 3}, "in halves and 3 groups"),
        ({"y2_copied_from": 8}, "cannot be copied"),
        ({"kernel": 5}, "holds 2304 values for 6400"),
        ({"fuse": "CRUFuse_joint_affine"}, "12 inputs are given and 14 are needed"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(
    changed: dict[str, object], said: str, library: Path
) -> None:
    case = block_case("SRU_soft", "CRUFuse_joint", 16)
    images = block_image(case, POOLED_FROM_RESULTS)
    with pytest.raises(Exception, match=said):
        run(case, images, 16, library, **changed)


def test_calls_at_the_same_time_do_not_disturb_each_other(library: Path) -> None:
    case = block_case("SRU_soft", "CRUFuse_joint", 16)
    one = session(block_model(case, 16), library, threads=2)
    images = [block_image(case, (1 + i % 5, 12, 11 + i), i) for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda given: one.run(None, {"x": in_blocks(given["x"], 16)})[0], images))
    errors = [error(case, given, from_blocks(got, 16)) for given, got in zip(images, results, strict=True)]
    assert max(errors) < TOLERANCE
