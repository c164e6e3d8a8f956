"""Ranges to scales and codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scconv_deploy.quantise.scales import activation_scale, bias_codes, least_scale, weight_codes

F32, F16 = np.dtype(np.float32), np.dtype(np.float16)


def test_what_a_relu_makes_uses_every_unsigned_code() -> None:
    scale = activation_scale(0.0, 5.1, "uint8", F32)
    assert int(scale.zero_point) == 0
    assert scale.limits == pytest.approx((0.0, 5.1))


def test_zero_always_has_a_code_of_its_own() -> None:
    scale = activation_scale(2.0, 5.0, "uint8", F32)
    assert scale.limits[0] == 0.0
    assert activation_scale(-5.0, -2.0, "uint8", F32).limits[1] == pytest.approx(0.0, abs=1e-6)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.sampled_from(["uint8", "int8", "float8_e4m3fn"]))
def test_every_range_is_held_but_for_half_a_step(one: float, other: float, kind: str) -> None:
    low, high = min(one, other), max(one, other)
    scale = activation_scale(low, high, kind, F16)
    # The zero point is rounded to a code, which shifts the range by half a step at most.
    slack = 0.51 * float(scale.scale) * (kind == "uint8")
    assert scale.limits[0] <= low + slack
    assert scale.limits[1] >= high - slack


@pytest.mark.parametrize("kind", ["uint8", "int8", "float8_e4m3fn"])
def test_an_activation_that_is_always_zero_gets_the_scale_one(kind: str) -> None:
    assert float(activation_scale(0.0, 0.0, kind, F32).scale) == 1.0


@pytest.mark.parametrize("rest", [F32, F16])
def test_weights_are_the_nearest_codes_of_their_channel(rest: np.dtype) -> None:
    weight = (
        np.random.default_rng(0).standard_normal((4, 3, 3, 3)) * [[[[1]]], [[[100]]], [[[0]]], [[[1e-7]]]]
    ).astype(np.float32)
    codes, scales = weight_codes(weight, 0, "int8", rest)
    error = np.abs(codes * scales.astype(np.float64).reshape(-1, 1, 1, 1) - weight)
    assert (error <= scales.astype(np.float64).reshape(-1, 1, 1, 1) * 0.5001).all()
    assert np.abs(codes[:2]).reshape(2, -1).max(axis=1).min() >= 126
    assert not codes[2].any()
    assert scales[2] == 1.0


def test_a_bias_far_beyond_its_channels_weights_still_fits_into_int32() -> None:
    weight, bias = np.full((1, 1, 1, 1), 1e-12, dtype=np.float32), np.array([5.0], dtype=np.float32)
    given_scale = activation_scale(0.0, 1e-3, "uint8", F32)
    _, scales = weight_codes(weight, 0, "int8", F32, least_scale(bias, given_scale))
    codes, bias_scales = bias_codes(bias, given_scale, scales)
    assert codes[0] * float(bias_scales[0]) == pytest.approx(5.0)
    # Without the floor the codes would not fit.
    _, tiny = weight_codes(weight, 0, "int8", F32)
    assert 5.0 / (float(given_scale.scale) * float(tiny[0])) > 2**31
