"""Stand-ins for ``cuda.bindings.runtime``, ``tensorrt`` and ``tensorrt_rtx`` that record calls; ``z = 2 * x``.

"Device" memory is real memory behind real addresses, so a wrong address, size, direction or order gives wrong
numbers or an assertion. What is captured runs when its graph is launched, with the addresses of the capture. Their
methods and parameter names are checked against the recorded bindings (test_recording_gpu.py).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

Dims = tuple[int, ...]
Range = tuple[Dims, Dims, Dims]


class Status(Enum):
    cudaSuccess = 0  # noqa: N815 - CUDA's names
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorStreamCaptureInvalidated = 901  # noqa: N815


class Direction(Enum):
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815
    cudaMemcpyDeviceToDevice = 3  # noqa: N815


class CaptureMode(Enum):
    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815


class Stream:
    """An opaque handle, as cuda-bindings returns it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.captured: list[Callable[[], None]] | None = None

    def __int__(self) -> int:
        return self.number


class Cuda:
    """``cuda.bindings.runtime``: every function answers a tuple that begins with a status."""

    cudaError_t = Status  # noqa: N815
    cudaMemcpyKind = Direction  # noqa: N815
    cudaStreamCaptureMode = CaptureMode  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: set[int] = set()
        self.failing: str | None = None
        self.lock = threading.Lock()

    def _answer(self, name: str, *values: object) -> tuple[object, ...]:
        with self.lock:
            self.calls.append(name)
        return (Status.cudaErrorMemoryAllocation,) if name == self.failing else (Status.cudaSuccess, *values)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[object, ...]:  # noqa: N802
        assert flags == self.cudaStreamNonBlocking
        with self.lock:
            stream = Stream(77 + len(self.calls))
            self.streams[stream.number] = stream
        return self._answer("cudaStreamCreateWithFlags", stream)

    def cudaStreamDestroy(self, stream: Stream) -> tuple[object, ...]:  # noqa: N802
        del self.streams[stream.number]
        return self._answer("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[object, ...]:  # noqa: N802
        assert stream.number in self.streams
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
        assert stream.number in self.streams
        ends = {
            Direction.cudaMemcpyHostToDevice: [to],
            Direction.cudaMemcpyDeviceToHost: [source],
            Direction.cudaMemcpyDeviceToDevice: [to, source],
        }[kind]
        assert all(size <= len(self.memory[device]) for device in ends)
        ctypes.memmove(to, source, size)
        return self._answer(f"copy {kind.name.removeprefix('cudaMemcpy')}")

    def cudaStreamBeginCapture(self, stream: Stream, mode: CaptureMode) -> tuple[object, ...]:  # noqa: N802
        assert mode is CaptureMode.cudaStreamCaptureModeThreadLocal
        stream.captured = []
        return self._answer("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[object, ...]:  # noqa: N802
        captured, stream.captured = stream.captured, None
        assert captured is not None
        return self._answer("cudaStreamEndCapture", captured)

    def cudaGraphInstantiate(  # noqa: N802
        self, graph: list[Callable[[], None]], flags: int
    ) -> tuple[object, ...]:
        self.graphs.add(id(graph))
        return self._answer("cudaGraphInstantiate", graph)

    def cudaGraphDestroy(self, graph: object) -> tuple[object, ...]:  # noqa: N802
        return self._answer("cudaGraphDestroy")

    def cudaGraphLaunch(  # noqa: N802
        self, graph: list[Callable[[], None]], stream: Stream
    ) -> tuple[object, ...]:
        assert id(graph) in self.graphs
        for work in graph:
            work()
        return self._answer("cudaGraphLaunch")

    def cudaGraphExecDestroy(self, graph: object) -> tuple[object, ...]:  # noqa: N802
        self.graphs.remove(id(graph))
        return self._answer("cudaGraphExecDestroy")


class Context:
    """``IExecutionContext`` of an engine that doubles ``x`` (rows of three numbers) into ``z``."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._cuda = engine, engine._cuda
        self._shape: Dims = (-1, 3)
        self._addresses: dict[str, int] = {}
        self._profile = 0
        self._busy = threading.Lock()

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle in self._cuda.streams
        self._cuda.calls.append(f"profile {profile_index}")
        self._profile, self._shape = profile_index, (-1, 3)
        return True

    def set_input_shape(self, name: str, shape: Dims) -> bool:
        assert name == "x"
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        self._cuda.calls.append("shape")
        self._shape = shape
        return all(a <= d <= b for a, d, b in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        return ["x"] if -1 in self._shape else []

    def get_tensor_shape(self, name: str) -> Dims:
        return self._engine._output or self._shape

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._busy.acquire(blocking=False), "one context was used by two calls at once"
        try:
            stream = self._cuda.streams[stream_handle]
            source, result, count = self._addresses["x"], self._addresses["z"], int(np.prod(self._shape))
            assert {source, result} <= set(self._cuda.memory), "an address of memory that was given back"
            self._engine._meet()
            if self._engine._starts and stream.captured is not None:
                self._cuda.calls.append("capture")
                stream.captured.append(lambda: self._double(source, result, count))
            elif self._engine._starts:
                self._cuda.calls.append("execute")
                self._double(source, result, count)
            return self._engine._starts
        finally:
            self._busy.release()

    def _double(self, source: int, result: int, count: int) -> None:
        given = (ctypes.c_float * count).from_address(source)
        doubled = (ctypes.c_float * count).from_address(result)
        for i in range(count):
            doubled[i] = 2 * given[i]


class Engine:
    """``ICudaEngine`` with one profile, or as many as a test gives it."""

    num_io_tensors = 2

    def __init__(self, cuda: Cuda, profiles: tuple[Range, ...] = (((1, 3), (2, 3), (4, 3)),)) -> None:
        self._cuda = cuda
        self._profiles = profiles
        self._starts = True
        self._output: Dims | None = None
        self._meet: Callable[[], object] = lambda: None
        self._configs: list[RuntimeConfig | None] = []
        self.num_optimization_profiles = len(profiles)
        self.streamable_weights_size = 0
        self._budget, self._takes_budget = 0, True

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self._budget

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, value: int) -> None:
        assert not self._configs, "the budget is set before any context is made"
        self._budget = value if self._takes_budget else 0

    def get_weight_streaming_automatic_budget(self) -> int:
        return 640

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, runtime_config: RuntimeConfig | None = None) -> Context | None:
        self._configs.append(runtime_config)
        return Context(self)

    def get_tensor_name(self, index: int) -> str:
        return "xz"[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"x": "in", "z": "out"}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return "FLOAT"

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        assert name == "x"
        return list(self._profiles[profile_index])


class RuntimeCache:
    """``IRuntimeCache`` of TensorRT for RTX."""

    def __init__(self) -> None:
        self._content = b""

    def deserialize(self, blob: bytes) -> bool:
        self._content = blob if blob.startswith(b"kernels") else b""
        return bool(self._content)

    def serialize(self) -> bytes:
        return self._content or b"kernels compiled here"


class RuntimeConfig:
    """``IRuntimeConfig`` of TensorRT for RTX."""

    def __init__(self) -> None:
        self.cuda_graph_strategy = "DISABLED"
        self._cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self._cache = cache
        return True
