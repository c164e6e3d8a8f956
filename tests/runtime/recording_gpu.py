"""Stand-ins for ``cuda.bindings.runtime`` and ``tensorrt_rtx`` that record calls and compute ``z = 2 * x``.

"Device" memory is real memory behind real addresses, so a wrong address, size, direction or order gives wrong
numbers or an assertion.
"""

import ctypes
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np


class Status(Enum):
    cudaSuccess = 0  # noqa: N815 - CUDA's names
    cudaErrorMemoryAllocation = 2  # noqa: N815


class Direction(Enum):
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


class Stream:
    """An opaque handle, as cuda-bindings returns it."""

    def __int__(self) -> int:
        return 77


class Cuda:
    """``cuda.bindings.runtime``: every function answers a tuple that begins with a status."""

    cudaError_t = Status  # noqa: N815
    cudaMemcpyKind = Direction  # noqa: N815

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.failing: str | None = None

    def _answer(self, name: str, *values: object) -> tuple[object, ...]:
        self.calls.append(name)
        return (Status.cudaErrorMemoryAllocation,) if name == self.failing else (Status.cudaSuccess, *values)

    def cudaStreamCreate(self) -> tuple[object, ...]:  # noqa: N802
        return self._answer("cudaStreamCreate", Stream())

    def cudaStreamDestroy(self, stream: Stream) -> tuple[object, ...]:  # noqa: N802
        return self._answer("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[object, ...]:  # noqa: N802
        return self._answer("cudaStreamSynchronize")

    def cudaMalloc(self, size: int) -> tuple[object, ...]:  # noqa: N802
        assert size > 0, "TensorRT takes no null address"
        block = (ctypes.c_byte * size)()
        if self.failing != "cudaMalloc":
            self.memory[ctypes.addressof(block)] = block
        return self._answer("cudaMalloc", ctypes.addressof(block))

    def cudaFree(self, address: int) -> tuple[object, ...]:  # noqa: N802
        del self.memory[address]
        return self._answer("cudaFree")

    def cudaMemcpyAsync(  # noqa: N802
        self, to: int, source: int, size: int, kind: Direction, stream: Stream
    ) -> tuple[object, ...]:
        device = to if kind is Direction.cudaMemcpyHostToDevice else source
        assert size <= len(self.memory[device])
        ctypes.memmove(to, source, size)
        return self._answer(f"copy {kind.name[-12:]}")


class Context:
    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.shape: tuple[int, ...] = (-1, 3)
        self.addresses: dict[str, int] = {}
        self.starts = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "x"
        self.cuda.calls.append("shape")
        self.shape = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def get_tensor_address(self, name: str) -> int:
        return self.addresses[name]

    def infer_shapes(self) -> list[str]:
        return ["x"] if -1 in self.shape else []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == 77
        self.cuda.calls.append("execute")
        if self.starts:
            count = int(np.prod(self.shape))
            source = (ctypes.c_float * count).from_address(self.addresses["x"])
            result = (ctypes.c_float * count).from_address(self.addresses["z"])
            for i in range(count):
                result[i] = 2 * source[i]
        return self.starts


class Engine:
    num_io_tensors = 2

    def __init__(self, context: Context) -> None:
        self.context = context

    def create_execution_context(self) -> Context:
        return self.context

    def get_tensor_name(self, index: int) -> str:
        return "xz"[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"x": "in", "z": "out"}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return "FLOAT"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, int]]:
        assert (name, profile) == ("x", 0)
        return [(1, 3), (2, 3), (4, 3)]


class Trt:
    """The module's own attributes that the runner touches."""

    __version__ = "1.7"
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    EngineInvalidityDiagnostics = SimpleNamespace(MALFORMED_ENGINE=32)

    class Logger:
        ERROR = 2

        def __init__(self, severity: int) -> None: ...

    def __init__(self, engine: Engine | None) -> None:
        self.engine = engine

    def Runtime(self, logger: object) -> SimpleNamespace:  # noqa: N802 - TensorRT's name
        return SimpleNamespace(
            get_engine_validity=lambda data: ("?", 0 if data.startswith(b"plan") else 32),
            deserialize_cuda_engine=lambda data: self.engine,
        )

    def nptype(self, dtype: str) -> type:
        if dtype == "BF16":
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return np.float32
