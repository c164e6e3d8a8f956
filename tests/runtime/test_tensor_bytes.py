"""Tensors without the onnx package, judged by the onnx package."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scconv_deploy.runtime.tensor_bytes import described, floats_of, tensor_of

ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))


@given(ARRAYS, st.booleans(), st.text("wé/", max_size=5))
def test_either_encoding_is_read(array: np.ndarray, raw: bool, name: str) -> None:
    tensor = onnx.helper.make_tensor(
        name, onnx.TensorProto.FLOAT, array.shape, array.tobytes() if raw else array.ravel().tolist(), raw
    )
    data = tensor.SerializeToString()
    assert described(data) == (name, array.shape)
    read = floats_of(data)
    assert read is not None
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.float32


def test_single_numbers_that_are_not_packed() -> None:
    data = b"\x08\x02\x10\x01" + b"".join(b"\x25" + np.float32(v).tobytes() for v in (1.5, -2.0))
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(data)), [1.5, -2.0])
    np.testing.assert_array_equal(floats_of(data), [1.5, -2.0])


@given(ARRAYS)
def test_what_is_written_is_read_by_others(array: np.ndarray) -> None:
    tensor = onnx.TensorProto.FromString(tensor_of("w", array.T))
    assert tensor.name == "w"
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), array.T)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_other_types_are_not_read(dtype: type) -> None:
    assert floats_of(onnx.numpy_helper.from_array(np.ones(2, dtype)).SerializeToString()) is None


def test_values_in_another_file_are_not_read() -> None:
    tensor = onnx.TensorProto(data_type=1, dims=[0], data_location=onnx.TensorProto.EXTERNAL)
    assert floats_of(tensor.SerializeToString()) is None


@pytest.mark.parametrize("size", [3, 9])
def test_another_number_of_values_than_the_dimensions_say(size: int) -> None:
    tensor = onnx.TensorProto(data_type=1, dims=[2, 2], raw_data=bytes(4 * size))
    assert floats_of(tensor.SerializeToString()) is None
