"""Any form, shape, grouping, size and threshold: the kernels against float64 (hypothesis)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.forms import FUSE_FORMS, SRU_FORMS, groups_for, image, sru_case
from tests.kernels.models import fuse_model, session, sru_model
from tests.kernels.reference import fuse, sru, worst

TOLERANCE = 1e-6
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
EXTENTS = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 23), st.integers(1, 23))
TYPES = st.sampled_from([np.float32, np.float16])


@SETTINGS
@given(
    operator=st.sampled_from(SRU_FORMS),
    extents=EXTENTS,
    wanted=st.integers(1, 18),
    size=st.sampled_from([0.01, 0.3, 2.0, 8.0]),
    logit=st.sampled_from([0.0, -1.5, 0.02, 3.0]),
    dtype=TYPES,
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_sru(operator, extents, wanted, size, logit, dtype, threads, seed, library: Path) -> None:
    batch, half, height, width = extents
    channels, plane = 2 * half, height * width
    groups = groups_for(operator, channels, plane, wanted)
    if "std" in operator.split("_") and channels * plane // groups < 2:
        groups = 1
    case = replace(sru_case(operator, channels, groups, seed, size), logit=logit)
    x = image((batch, channels, height, width), seed, dtype)
    if channels * plane // groups < 2:
        x = np.concatenate([x, x + 1], axis=3).astype(dtype)
    got = session(sru_model(case, dtype), library, threads).run(None, {"x": x})
    assert worst(sru(case, x), tuple(got)) < TOLERANCE


@SETTINGS
@given(
    operator=st.sampled_from(FUSE_FORMS),
    extents=EXTENTS,
    offset=st.floats(-8, 8),
    dtype=TYPES,
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_fuse(operator, extents, offset, dtype, threads, seed, library: Path) -> None:
    generator = np.random.default_rng(seed)
    named = {k: generator.normal(size=extents[1]).astype(np.float32) for k in ("scale", "shift")}
    y1, y2 = image(extents, seed, dtype), (image(extents, seed + 1) + offset).astype(dtype)
    more = {"added": image(extents, seed + 2, dtype)} if "add" in operator.split("_") else {}
    given = {"y1": y1, "y2": y2, **more}
    got = session(fuse_model(operator, named, dtype), library, threads).run(None, given)
    assert worst(fuse(operator, y1, y2, named["scale"], named["shift"], **more), tuple(got)) < TOLERANCE


@pytest.mark.parametrize("bits", [range(0x10000)])
def test_every_float16_goes_through_unchanged(bits: range, instruction_set: str, library: Path) -> None:
    """A fuse of (x, 0) with equal means has weights 1/2 each; scale 2 gives x back, subnormals included."""
    every = np.array(bits, np.uint16).view(np.float16)
    x = every[np.isfinite(every)]
    x = np.concatenate([x, -x]).reshape(1, 1, -1, 1)  # the mean is zero
    model = fuse_model(
        "CRUFuse_joint_affine", {"scale": np.full(1, 2.0), "shift": np.zeros(1, np.float32)}, np.float16
    )
    got = session(model, library).run(None, {"y1": x, "y2": np.zeros_like(x)})[0]
    np.testing.assert_array_equal(got, x)


def test_halves_round_to_nearest_even(instruction_set: str, library: Path) -> None:
    """The sum of two float16 values is rounded as NumPy rounds it, ties included."""
    generator = np.random.default_rng(0)
    y = generator.normal(size=(2, 2500, 16)) * 10.0 ** generator.uniform(-8, 4, (2, 2500, 16))
    # v, -v in turns of 16 values: their sum is exactly zero in any order the kernels add in.
    turns = np.concatenate([y, -y], axis=2).reshape(2, 1, 1, -1, 1).astype(np.float16)
    named = {"scale": np.full(1, 2.0), "shift": np.zeros(1, np.float32)}
    got = session(fuse_model("CRUFuse_joint_affine", named, np.float16), library).run(
        None, {"y1": turns[0], "y2": turns[1]}
    )[0]
    want = (turns[0].astype(np.float32) + turns[1].astype(np.float32)).astype(np.float16)
    np.testing.assert_array_equal(got, want)
