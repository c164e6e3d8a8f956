"""A TensorProto's bytes <-> its name, its dimensions and, for float32, its values, without the onnx package.

Values stand in ``raw_data`` (little-endian) or in ``float_data``. Those in another file, or in another type, are not
read.
"""

from __future__ import annotations

import math

import numpy as np

from scconv_deploy.runtime.graph_node import integers_of
from scconv_deploy.runtime.protobuf import (
    BYTES,
    FIXED32,
    Field,
    encoded,
    fields_of,
    integer_field,
    text_field,
)

DIMS, ELEMENT, FLOAT_DATA, NAME, RAW_DATA, LOCATION = 1, 2, 4, 8, 9, 14
FLOAT = 1
"""``TensorProto.FLOAT``; also the number of a float32 tensor's type in a TypeProto."""
LITTLE = np.dtype("<f4")


def described(tensor: bytes | memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and dimensions."""
    name, dims = "", []
    for part in fields_of(tensor):
        if part.number == NAME:
            name = part.text
        elif part.number == DIMS:
            dims += integers_of(part)
    return name, tuple(dims)


def floats_of(tensor: bytes | memoryview) -> np.ndarray | None:
    """The values, float32; None where they are of another type, in another file, or fewer than the dimensions say."""
    dims: list[int] = []
    pieces: list[bytes | memoryview] = []
    element = location = 0
    for part in fields_of(tensor):
        if part.number == DIMS:
            dims += integers_of(part)
        elif part.number == ELEMENT:
            element = part.integer
        elif part.number == LOCATION:
            location = part.integer
        elif part.number == RAW_DATA or (part.number == FLOAT_DATA and part.wire in (BYTES, FIXED32)):
            pieces.append(part.data)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if element != FLOAT or location or len(data) != LITTLE.itemsize * math.prod(dims):
        return None
    return np.frombuffer(data, LITTLE).astype(np.float32).reshape(dims)


def tensor_of(name: str, values: np.ndarray) -> bytes:
    """A float32 array as the bytes of a tensor."""
    raw = np.ascontiguousarray(values, LITTLE).tobytes()
    return encoded(
        [
            *(integer_field(DIMS, extent) for extent in values.shape),
            integer_field(ELEMENT, FLOAT),
            text_field(NAME, name),
            Field(RAW_DATA, BYTES, raw),
        ]
    )
