"""Every datatype there and back, as bytes and as JSON; and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scconv_deploy.errors import InputError
from scconv_deploy.serve import tensors as t


@pytest.mark.parametrize("datatype", t.BY_DATATYPE)
def test_there_and_back(datatype: str) -> None:
    dtype = t.numpy_dtype(t.BY_DATATYPE[datatype])
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    assert t.datatype_of(array.dtype) == datatype
    back = t.from_bytes("x", datatype, (2, 3), t.to_bytes(array))
    assert back.dtype == dtype
    assert np.array_equal(back, array)
    assert np.array_equal(t.from_json("x", datatype, (2, 3), t.to_json(array)), array)


def test_nested_and_flat_json_are_the_same() -> None:
    nested = t.from_json("x", "FP32", (2, 2), [[1, 2.5], [3, 4]])
    assert np.array_equal(nested, t.from_json("x", "FP32", (2, 2), [1, 2.5, 3, 4]))
    assert t.from_json("x", "FP32", (0, 2), []).shape == (0, 2)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_floats_survive_json_exactly(numbers: list[float]) -> None:
    array = np.array(numbers, np.float32)
    assert np.array_equal(t.from_json("x", "FP32", array.shape, t.to_json(array)), array)


@pytest.mark.parametrize(
    ("datatype", "data", "words"),
    [
        ("FP32", "no", "must be a list of numbers"),
        ("FP32", [1, "two"], "must be numbers"),
        ("FP32", [1, None], "must be numbers"),
        ("FP32", [[1], [2, 3]], "nested unevenly"),
        ("FP32", [1, 2, 3], "its shape says"),
        ("FP32", [[1, 2]], "its shape says"),
        ("UINT8", [1, 256], "whole numbers from 0 to 255"),
        ("INT8", [1.5, 2.0], "whole numbers from -128"),
        ("BOOL", [1, 0], "true or false"),
        ("FP31", [1, 2], "did you mean 'FP32'"),
        ("BYTES", ["a", "b"], "this server takes"),
    ],
)
def test_json_that_does_not_fit_is_a_sentence(datatype: str, data: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        t.from_json("x", datatype, (2,), data)


def test_a_wrong_length_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"input 'x' brings 7 bytes; FP32 of shape \[2\] has 8"):
        t.from_bytes("x", "FP32", (2,), b"1234567")
    huge = (2**40, 2**40)  # the product is an exact Python number, so nothing wraps around
    with pytest.raises(InputError, match="brings 0 bytes"):
        t.from_bytes("x", "FP32", huge, b"")


@pytest.mark.parametrize("shape", [None, "23", [1, -1], [1, 2.0], [True], [1] * 33])
def test_shapes_are_whole_numbers(shape: object) -> None:
    with pytest.raises(InputError, match=r"shape|axes"):
        t.checked_shape("x", shape)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_nan(value: float) -> None:
    with pytest.raises(InputError, match="ask for binary data"):
        t.to_json(np.array([value], np.float32))
