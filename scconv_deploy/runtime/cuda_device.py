"""Device memory, copies, streams and graphs for an engine, through cuda-bindings or, without it, through torch.

Both speak to the same CUDA runtime; cuda-bindings comes first because a slim serving image has no torch. torch is
imported only when it is needed. Unproved on a GPU as of 2026-11-22, like the runner.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from scconv_deploy.errors import CapabilityError, first_line

INSTALL = "pip install cuda-bindings"
BINDINGS = "cuda.bindings.runtime"


@dataclass(frozen=True, slots=True)
class Buffer:
    """Device memory: its address, its size in bytes, and what keeps it alive."""

    address: int
    size: int
    owner: Any = None


class CudaDevice(Protocol):
    """What an engine needs of CUDA. Every method raises CapabilityError where the GPU reports an error."""

    library: str

    def open_stream(self) -> Any:
        """A stream of its own, which does not wait for the default one."""

    def close_stream(self, stream: Any) -> None:
        """Give it back."""

    def handle(self, stream: Any) -> int:
        """Its cudaStream_t as a number, as TensorRT takes it."""

    def allocate(self, size: int) -> Buffer:
        """``size`` bytes, at least one: TensorRT takes no null address."""

    def free(self, buffer: Buffer) -> None:
        """Give memory back; nothing may be running on it."""

    def send(self, buffer: Buffer, host: np.ndarray, stream: Any) -> None:
        """Begin to copy a contiguous array to the device; it must live until :meth:`wait`."""

    def fetch(self, host: np.ndarray, buffer: Buffer, stream: Any) -> None:
        """Begin to copy to a contiguous array; complete after :meth:`wait`."""

    def move(self, to: int, source: int, size: int, stream: Any) -> None:
        """Begin to copy within the memory of GPUs, by address; complete after :meth:`wait`."""

    def wait(self, stream: Any) -> None:
        """Until the stream has come to its end."""

    def capture(self, stream: Any, launch: Callable[[], None]) -> Any:
        """Record what ``launch`` starts on the stream, without running it, as a graph."""

    def replay(self, graph: Any, stream: Any) -> None:
        """Start everything a graph recorded."""

    def drop(self, graph: Any) -> None:
        """Give a graph back."""


class BindingsDevice:
    """CUDA through cuda-bindings."""

    library = "cuda-bindings"

    def __init__(self, cuda: ModuleType) -> None:
        self.cuda = cuda

    def call(self, function: str, *arguments: object) -> Any:
        """One CUDA runtime call; its result, or CapabilityError with the name of the CUDA error."""
        status, *values = getattr(self.cuda, function)(*arguments)
        if status != self.cuda.cudaError_t.cudaSuccess:
            raise CapabilityError(f"CUDA reports {getattr(status, 'name', status)} in {function}")
        return values[0] if values else None

    def open_stream(self) -> Any:
        """See :class:`CudaDevice`."""
        return self.call("cudaStreamCreateWithFlags", self.cuda.cudaStreamNonBlocking)

    def close_stream(self, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        self.call("cudaStreamDestroy", stream)

    def handle(self, stream: Any) -> int:
        """See :class:`CudaDevice`."""
        return int(stream)

    def allocate(self, size: int) -> Buffer:
        """See :class:`CudaDevice`."""
        return Buffer(int(self.call("cudaMalloc", max(1, size))), max(1, size))

    def free(self, buffer: Buffer) -> None:
        """See :class:`CudaDevice`."""
        self.call("cudaFree", buffer.address)

    def send(self, buffer: Buffer, host: np.ndarray, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        way = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", buffer.address, host.ctypes.data, host.nbytes, way, stream)

    def fetch(self, host: np.ndarray, buffer: Buffer, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        way = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", host.ctypes.data, buffer.address, host.nbytes, way, stream)

    def move(self, to: int, source: int, size: int, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        way = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self.call("cudaMemcpyAsync", to, source, size, way, stream)

    def wait(self, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        self.call("cudaStreamSynchronize", stream)

    def capture(self, stream: Any, launch: Callable[[], None]) -> Any:
        """See :class:`CudaDevice`. Other threads may go on using CUDA meanwhile (thread-local mode)."""
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)
        try:
            launch()
        finally:
            # A capture that is not ended leaves the stream unusable.
            graph = self.call("cudaStreamEndCapture", stream)
        try:
            return self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)

    def replay(self, graph: Any, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        self.call("cudaGraphLaunch", graph, stream)

    def drop(self, graph: Any) -> None:
        """See :class:`CudaDevice`."""
        self.call("cudaGraphExecDestroy", graph)


class TorchDevice:
    """CUDA through torch's tensors, streams and graphs."""

    library = "torch"

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def open_stream(self) -> Any:
        """See :class:`CudaDevice`."""
        with self._in_words("opening a stream"):
            return self._torch.cuda.Stream()

    def close_stream(self, stream: Any) -> None:
        """torch gives streams back by itself."""

    def handle(self, stream: Any) -> int:
        """See :class:`CudaDevice`."""
        return int(stream.cuda_stream)

    def allocate(self, size: int) -> Buffer:
        """See :class:`CudaDevice`."""
        with self._in_words(f"allocating {size} bytes"):
            tensor = self._torch.empty(max(1, size), dtype=self._torch.uint8, device="cuda")
            return Buffer(int(tensor.data_ptr()), max(1, size), tensor)

    def free(self, buffer: Buffer) -> None:
        """The memory goes with the last reference to its tensor."""

    def send(self, buffer: Buffer, host: np.ndarray, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        # torch warns of arrays that cannot be written to, although it only reads this one.
        given = host if host.flags.writeable else host.copy()
        with self._in_words("copying to the device"), self._torch.cuda.stream(stream):
            buffer.owner[: host.nbytes].copy_(self._bytes(given))

    def fetch(self, host: np.ndarray, buffer: Buffer, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        with self._in_words("copying from the device"), self._torch.cuda.stream(stream):
            self._bytes(host).copy_(buffer.owner[: host.nbytes])

    def move(self, to: int, source: int, size: int, stream: Any) -> None:  # noqa: ARG002 - the protocol's
        """torch copies tensors, not addresses."""
        raise CapabilityError(f"tensors on the GPU are taken through cuda-bindings: {INSTALL}")

    def wait(self, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        with self._in_words("waiting for the stream"):
            stream.synchronize()

    def capture(self, stream: Any, launch: Callable[[], None]) -> Any:
        """See :class:`CudaDevice`."""
        with self._in_words("capturing a graph"):
            graph = self._torch.cuda.CUDAGraph()
            with self._torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                launch()
            return graph

    def replay(self, graph: Any, stream: Any) -> None:
        """See :class:`CudaDevice`."""
        with self._in_words("replaying a graph"), self._torch.cuda.stream(stream):
            graph.replay()

    def drop(self, graph: Any) -> None:
        """See :class:`CudaDevice`."""
        with self._in_words("dropping a graph"):
            graph.reset()

    def _bytes(self, host: np.ndarray) -> Any:
        return self._torch.from_numpy(host.reshape(-1).view(np.uint8))

    @contextlib.contextmanager
    def _in_words(self, doing: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch.cuda.OutOfMemoryError is one, too
            raise CapabilityError(f"torch reports a CUDA error in {doing}: {first_line(error)}") from error


def find_device() -> CudaDevice | None:
    """The way to CUDA that is installed here; None where there is neither."""
    cuda = load(BINDINGS)
    if cuda is not None:
        return BindingsDevice(cuda)
    torch = load("torch")
    if torch is not None and torch.cuda.is_available():
        return TorchDevice(torch)
    return None


def load(name: str) -> ModuleType | None:
    """A module, or None where it is absent or its libraries do not load.

    TensorRT's wheel raises OSError or RuntimeError, not ImportError, when its libraries are missing.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        return None
