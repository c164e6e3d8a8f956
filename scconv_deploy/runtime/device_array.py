"""A tensor of another library in a GPU's memory, seen through DLPack -> its shape, dtype and address.

The library is asked for the tensor twice: once without waiting, to see what it is, and once for the stream that will
read or write it, which then waits for the library's own work on the tensor (the contract of ``__dlpack__``). A capsule
that is dropped unconsumed gives its tensor back, so that holding it is all there is to ownership.

Source: the DLPack specification, unversioned capsules (``dltensor``). Unproved on a GPU as of 2026-11-23; proved are
the layout, with torch's own capsules, and the order of calls, with stand-ins (tests/runtime/test_device_array.py).
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from scconv_deploy.errors import InputError, first_line
from scconv_deploy.runtime.dtypes import BFLOAT16, numpy_dtype

ON_CUDA = (2, 13)
"""kDLCUDA and kDLCUDAManaged."""
NO_STREAM = -1
"""The library need not wait for anything: nothing will be read."""
KINDS = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """``DLTensor``, with which a ``DLManagedTensor`` begins."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class DeviceArray:
    """What an engine needs of a tensor on a GPU.

    Args:
        tensor: of any library that speaks DLPack.
        called: what it is, for messages: "input 'x'".

    Attributes:
        tensor, shape, dtype, ndim, nbytes.

    Raises:
        InputError: the library does not give it, it is not contiguous, or NumPy has no name for its type.
    """

    def __init__(self, tensor: Any, called: str) -> None:
        self.tensor = tensor
        self._called = called
        capsule, seen = self._ask(NO_STREAM)
        self.ndim = int(seen.ndim)
        self.shape = tuple(int(seen.shape[axis]) for axis in range(self.ndim))
        self.dtype = _dtype(seen.dtype, called)
        self.nbytes = self.dtype.itemsize * math.prod(self.shape)
        if not _is_contiguous(seen, self.shape):
            raise InputError(f"{called} lies in pieces in the GPU's memory; make it contiguous first")
        del capsule  # it keeps what was looked at

    def lent_to(self, stream: int) -> tuple[int, object]:
        """Its address, once ``stream`` waits for what its library still does with it, and what keeps it alive.

        Raises:
            InputError: the library does not give it.
        """
        capsule, seen = self._ask(stream)
        return int(seen.data or 0) + int(seen.byte_offset), capsule

    def _ask(self, stream: int) -> tuple[object, Any]:
        try:
            capsule = self.tensor.__dlpack__(stream=stream)
        except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{self._called} is a {type(self.tensor).__name__} that cannot be seen through DLPack "
                f"({first_line(error)}); detach it first"
            ) from error
        address = _pointer(capsule, b"dltensor")
        return capsule, _Tensor.from_address(int(address))


def is_on_gpu(value: object) -> bool:
    """Whether this is a tensor in the memory of an NVIDIA GPU."""
    ask = getattr(value, "__dlpack_device__", None)
    return ask is not None and int(ask()[0]) in ON_CUDA


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _dtype(kind: Any, called: str) -> np.dtype[Any]:
    name = f"{KINDS.get(kind.code, 'unknown')}{kind.bits}"
    if kind.lanes != 1 or kind.code not in KINDS:
        raise InputError(f"{called} has elements that NumPy has no name for (DLPack's code {kind.code})")
    return numpy_dtype({"bool8": "bool", "bfloat16": BFLOAT16}.get(name, name))


def _is_contiguous(seen: Any, shape: tuple[int, ...]) -> bool:
    if not seen.strides or 0 in shape:
        return True
    step = 1
    for axis in reversed(range(len(shape))):
        if shape[axis] != 1 and seen.strides[axis] != step:
            return False
        step *= shape[axis]
    return True
