"""A plan file -> a runner on TensorRT or TensorRT for RTX, with device buffers through cuda-bindings.

Unproved on a GPU as of 2026-11-22: no machine with one was at hand. What is proved is the order and the
arguments of every call, against the signatures of tensorrt_rtx 1.7.1 and with recording stand-ins
(tests/runtime/test_tensorrt.py). Nothing touches the GPU before the runner is entered.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from scconv_deploy.config import dims
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.measurements import GpuTimes
from scconv_deploy.runtime.device_timing import Copy, Device, timed_pass
from scconv_deploy.runtime.dtypes import BFLOAT16, numpy_dtype
from scconv_deploy.runtime.nvidia_driver import NoGpu, probe

MODULES = {
    "tensorrt": ("tensorrt", 'pip install "scconv-deploy[trt]"'),
    "tensorrt-rtx": ("tensorrt_rtx", 'pip install "scconv-deploy[trt-rtx]"'),
}
INSTALL_CUDA = "pip install cuda-bindings"


def obstacle(runtime: str) -> str | None:
    """Why this machine cannot run plans of ``runtime`` ("tensorrt" or "tensorrt-rtx"); None if it can."""
    module, install = MODULES[runtime]
    gpu = probe()
    if isinstance(gpu, NoGpu):
        return gpu.reason
    if _load(module) is None:
        return f"{module} is not installed; install it with: {install}"
    if _load("cuda.bindings.runtime") is None:
        return f"cuda-bindings is not installed; install it with: {INSTALL_CUDA}"
    return None


class TensorRTRunner:
    """Runs a plan. A context manager: the GPU is first used on entering. Calls are serialised by a lock.

    Args:
        plan: the ``model.engine`` of a bundle.
        runtime: "tensorrt" or "tensorrt-rtx", whichever built it (the manifest says).
    """

    def __init__(self, plan: Path, runtime: str = "tensorrt-rtx") -> None:
        if runtime not in MODULES:
            raise InputError(f"'{runtime}' is no TensorRT runtime; it is one of {', '.join(MODULES)}")
        self._plan = plan
        self._name = runtime
        self._lock = threading.Lock()
        self._open: ExitStack | None = None

    def __enter__(self) -> Self:
        """Deserialise the plan.

        Raises:
            CapabilityError: no driver, GPU or library here, or the plan was not built for this machine.
            InputError: the file is no plan of this runtime.
        """
        reason = obstacle(self._name)
        if reason is not None:
            raise CapabilityError(f"{self._plan.name} cannot be run here: {reason}")
        trt, cuda = _load(MODULES[self._name][0]), _load("cuda.bindings.runtime")
        if trt is None or cuda is None:
            raise CapabilityError(f"the libraries of {self._name} were there a moment ago and are gone")
        data = self._plan.read_bytes()
        self._trt, self._cuda = trt, cuda
        self._runtime: Any = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        _refuse_malformed(trt, self._runtime, data, self._plan)
        self._engine: Any = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise CapabilityError(
                f"{self._name} {trt.__version__} cannot load {self._plan.name} on this GPU; it was built for "
                "another version or compute capability (see the manifest), so export it again"
            )
        self._context: Any = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        is_input = {n: self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        self.input_names = tuple(n for n in names if is_input[n])
        self.output_names = tuple(n for n in names if not is_input[n])
        with ExitStack() as opened:
            self._stream = self._call("cudaStreamCreate")
            opened.callback(self._call, "cudaStreamDestroy", self._stream)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.close()
        # The context must go before its engine, and the engine before the runtime.
        self._open = self._context = self._engine = self._runtime = None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; names in, names out.

        Raises:
            InputError: a missing or unknown input, or a dtype or shape outside the plan's profile.
            CapabilityError: the runner was not entered, or the GPU reported an error.
        """
        if self._open is None:
            raise CapabilityError("the runner is not open; use it as `with TensorRTRunner(...) as runner:`")
        if set(inputs) != set(self.input_names):
            raise InputError(
                f"the engine takes inputs {', '.join(self.input_names)}; "
                f"given were {', '.join(inputs) or 'none'}"
            )
        with self._lock, ExitStack() as buffers:
            kept = [self._give(name, inputs[name], buffers) for name in self.input_names]
            unresolved = self._context.infer_shapes()
            if unresolved:
                raise InputError(f"the engine still lacks shapes for {', '.join(unresolved)}")
            results = {name: self._prepare(name, buffers) for name in self.output_names}
            if not self._context.execute_async_v3(int(self._stream)):
                raise CapabilityError(
                    f"{self._name} could not start {self._plan.name}; its log has the reason"
                )
            kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
            for host, device in results.values():
                self._call("cudaMemcpyAsync", host.ctypes.data, device, host.nbytes, kind, self._stream)
            # The sources of the asynchronous copies must live until the stream has come to its end.
            self._call("cudaStreamSynchronize", self._stream)
            del kept
            return {name: host for name, (host, _) in results.items()}

    def device_times(self, inputs: Mapping[str, np.ndarray]) -> GpuTimes:
        """Time many runs on the device itself, transfers apart (:mod:`.device_timing`).

        Raises:
            InputError, CapabilityError: as :meth:`run`.
        """
        if self._open is None:
            raise CapabilityError("the runner is not open; use it as `with TensorRTRunner(...) as runner:`")
        ways = self._cuda.cudaMemcpyKind
        with self._lock, ExitStack() as buffers:
            hosts = {name: self._give(name, inputs[name], buffers) for name in self.input_names}
            results = {name: self._prepare(name, buffers) for name in self.output_names}
            sends = [
                Copy(
                    self._context.get_tensor_address(n), h.ctypes.data, h.nbytes, ways.cudaMemcpyHostToDevice
                )
                for n, h in hosts.items()
            ]
            fetches = [
                Copy(host.ctypes.data, device, host.nbytes, ways.cudaMemcpyDeviceToHost)
                for host, device in results.values()
            ]
            launch = lambda: bool(self._context.execute_async_v3(int(self._stream)))  # noqa: E731
            return timed_pass(Device(self._call, self._cuda, self._stream, launch), sends, fetches)

    def _give(self, name: str, value: np.ndarray, buffers: ExitStack) -> np.ndarray:
        """Copy one input to the device and set its shape and address; return what must stay alive."""
        wanted = self._dtype(name)
        if value.dtype != wanted:
            raise InputError(f"input '{name}' must be {wanted}, not {value.dtype}")
        low, _, high = (tuple(s) for s in self._engine.get_tensor_profile_shape(name, 0))
        fits = len(low) == value.ndim and all(
            a <= d <= b for a, d, b in zip(low, value.shape, high, strict=True)
        )
        if not fits or not self._context.set_input_shape(name, tuple(value.shape)):
            raise InputError(
                f"input '{name}' has shape {dims(value.shape)}; this engine takes {dims(low)} to {dims(high)}"
            )
        host = np.ascontiguousarray(value)
        device = self._allocate(host.nbytes, buffers)
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device, host.ctypes.data, host.nbytes, kind, self._stream)
        self._context.set_tensor_address(name, device)
        return host

    def _prepare(self, name: str, buffers: ExitStack) -> tuple[np.ndarray, int]:
        """Host and device buffers of one output, of the shape that follows from the inputs'."""
        host = np.empty(tuple(self._context.get_tensor_shape(name)), self._dtype(name))
        device = self._allocate(host.nbytes, buffers)
        self._context.set_tensor_address(name, device)
        return host, device

    def _allocate(self, size: int, buffers: ExitStack) -> int:
        # TensorRT takes no null address, which an empty allocation would be.
        device = int(self._call("cudaMalloc", max(1, size)))
        buffers.callback(self._call, "cudaFree", device)
        return device

    def _dtype(self, name: str) -> np.dtype[Any]:
        stored = self._engine.get_tensor_dtype(name)
        if stored == getattr(self._trt, BFLOAT16, None):  # nptype has no answer for it
            return numpy_dtype(BFLOAT16)
        try:
            found: np.dtype[Any] = np.dtype(self._trt.nptype(stored))
        except TypeError as error:
            raise InputError(f"tensor '{name}' is {stored}, a type NumPy does not have") from error
        return found

    def _call(self, function: str, *arguments: object) -> Any:
        """One CUDA runtime call; its result, or CapabilityError with the name of the CUDA error."""
        status, *values = getattr(self._cuda, function)(*arguments)
        if status != self._cuda.cudaError_t.cudaSuccess:
            raise CapabilityError(f"CUDA reports {getattr(status, 'name', status)} in {function}")
        return values[0] if values else None


def _refuse_malformed(trt: ModuleType, runtime: Any, data: bytes, plan: Path) -> None:
    if not hasattr(runtime, "get_engine_validity"):
        return
    _, diagnostics = runtime.get_engine_validity(data)
    if int(diagnostics) & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
        raise InputError(f"{plan} is not an engine of this runtime, or is damaged")


def _load(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        return None
