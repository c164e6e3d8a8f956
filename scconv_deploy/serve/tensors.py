"""Open Inference Protocol data types <-> NumPy, as raw little-endian bytes and as JSON numbers.

Source: Open Inference Protocol, "Tensor Data Types" and "Binary Tensor Data Extension". ``BYTES`` (strings) is
refused: a bundle has no such tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scconv_deploy.errors import InputError, nearest
from scconv_deploy.runtime.dtypes import BFLOAT16, numpy_dtype

BY_DATATYPE = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": BFLOAT16,
}
BY_DTYPE = {name: datatype for datatype, name in BY_DATATYPE.items()}
MAX_AXES = 32


def datatype_of(dtype: np.dtype[Any] | str) -> str:
    """``float32`` -> ``FP32``."""
    return BY_DTYPE[str(dtype)]


def checked_shape(name: str, shape: object) -> tuple[int, ...]:
    """A shape out of a request.

    Raises:
        InputError: not a list of whole numbers of at least 0, or too many axes.
    """
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise InputError(f"input '{name}' has no shape; give a list of whole numbers")
    if len(shape) > MAX_AXES:
        raise InputError(f"input '{name}' has {len(shape)} axes; at most {MAX_AXES} are taken")
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise InputError(f"the shape of input '{name}' must hold whole numbers of at least 0")
    return tuple(shape)


def from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> np.ndarray:
    """Raw row-major little-endian bytes -> an array that reads the same memory.

    Raises:
        InputError: an unknown type, or a length that the shape does not have.
    """
    dtype = _dtype(name, datatype)
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise InputError(
            f"input '{name}' brings {len(data)} bytes; {datatype} of shape {list(shape)} has {wanted}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: object) -> np.ndarray:
    """Numbers, flat in row-major order or nested as the shape, -> an array.

    Raises:
        InputError: an unknown type, other things than numbers, numbers the type does not hold, or too few or many.
    """
    dtype = _dtype(name, datatype)
    if not isinstance(data, list):
        raise InputError(f"the data of input '{name}' must be a list of numbers")
    try:
        # Python numbers first: so a wrong kind or range is seen instead of being wrapped around.
        wide = np.array(data)
    except ValueError:
        raise InputError(f"the data of input '{name}' is nested unevenly") from None
    if wide.size == 0:
        wide = wide.astype(dtype)
    if wide.dtype.kind not in "biuf":
        raise InputError(f"the data of input '{name}' must be numbers")
    if wide.size != math.prod(shape) or (wide.ndim != 1 and wide.shape != shape):
        raise InputError(
            f"input '{name}' brings numbers of shape {list(wide.shape)}; its shape says {list(shape)}"
        )
    if dtype.kind in "iu":
        _fits(name, datatype, wide, dtype)
    if dtype.kind == "b" and wide.dtype.kind != "b":
        raise InputError(f"the data of input '{name}' must be true or false")
    return wide.astype(dtype).reshape(shape)


def to_json(array: np.ndarray) -> list[Any]:
    """Flat row-major numbers; NaN and infinities, which JSON has not, are refused.

    Raises:
        InputError: the output must be asked for as binary data.
    """
    flat = array.reshape(-1)
    if flat.dtype.kind not in "biu":
        flat = flat.astype(np.float64)
        if not np.isfinite(flat).all():
            raise InputError(
                "an output holds NaN or infinity, which JSON has no numbers for; ask for binary data "
                "(parameters: {binary_data_output: true})"
            )
    found: list[Any] = flat.tolist()
    return found


def to_bytes(array: np.ndarray) -> bytes:
    """Raw row-major little-endian bytes."""
    return np.ascontiguousarray(array).tobytes()


def _fits(name: str, datatype: str, wide: np.ndarray, dtype: np.dtype[Any]) -> None:
    limits = np.iinfo(dtype)
    if wide.dtype.kind == "f" or (wide.size and (wide.min() < limits.min or wide.max() > limits.max)):
        raise InputError(
            f"the data of input '{name}' must be whole numbers from {limits.min} to {limits.max} ({datatype})"
        )


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in BY_DATATYPE:
        raise InputError(
            f"input '{name}' has datatype '{datatype}'; this server takes {', '.join(BY_DATATYPE)}"
            f"{nearest(datatype, BY_DATATYPE)}"
        )
    return numpy_dtype(BY_DATATYPE[datatype])
