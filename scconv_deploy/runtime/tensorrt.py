"""A plan file -> a runner on TensorRT or TensorRT for RTX.

Unproved on a GPU as of 2026-11-22: no machine with one was at hand. What is proved is the order and the
arguments of every call, with recording stand-ins (tests/runtime/test_tensorrt.py) whose signatures are checked
against the bindings of TensorRT 10.0 to 11.4 and of TensorRT for RTX 1.7 (tests/exporters/bindings). Nothing
touches the GPU before the runner is entered.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.kernels.names import operators
from scconv_deploy.measurements import GpuTimes
from scconv_deploy.runtime import runtime_cache
from scconv_deploy.runtime.cuda_device import INSTALL, BindingsDevice, find_device, load
from scconv_deploy.runtime.device_timing import Copy, Device, timed_pass
from scconv_deploy.runtime.engine_checks import dtype_of, refuse_invalid, stream_weights
from scconv_deploy.runtime.engine_contexts import ContextPool, Ends, Shapes, Slot
from scconv_deploy.runtime.engine_fit import mismatch
from scconv_deploy.runtime.engine_options import EngineOptions
from scconv_deploy.runtime.engine_profiles import choose, of_engine
from scconv_deploy.runtime.nvidia_driver import Gpu, NoGpu, probe

MODULES = {
    "tensorrt": ("tensorrt", 'pip install "scconv-deploy[trt]"'),
    "tensorrt-rtx": ("tensorrt_rtx", 'pip install "scconv-deploy[trt-rtx]"'),
}


_CREATORS: list[object] = []


def obstacle(runtime: str, manifest: Mapping[str, Any] | None = None) -> str | None:
    """Why this machine cannot run plans of ``runtime`` ("tensorrt" or "tensorrt-rtx"); None if it can.

    With a bundle's manifest also whether this very engine belongs here. The GPU is not touched.
    """
    module, install = MODULES[runtime]
    gpu = probe()
    if isinstance(gpu, NoGpu):
        return gpu.reason
    trt = load(module)
    if trt is None:
        return f"{module} is not installed; install it with: {install}"
    if find_device() is None:
        return f"cuda-bindings is not installed; install it with: {INSTALL}"
    return mismatch(manifest, gpu, module, str(trt.__version__)) if manifest else None


class TensorRTRunner:
    """Runs a plan. A context manager: the GPU is first used on entering. Thread-safe: as many calls run at once as
    there are contexts.

    Args:
        plan: the ``model.engine`` of a bundle.
        runtime: "tensorrt" or "tensorrt-rtx", whichever built it (the manifest says).
        options: contexts, CUDA graphs, kernel cache, weight budget.
        manifest: of the bundle, where there is one: a mismatch is then explained before anything is loaded.

    Attributes:
        takes_gpu_tensors: inputs and targets may be :class:`~scconv_deploy.runtime.device_array.DeviceArray`.
        notes: what is worth knowing of the open engine: the cache, graphs, streamed weights.
    """

    takes_gpu_tensors = True

    def __init__(
        self,
        plan: Path,
        runtime: str = "tensorrt-rtx",
        options: EngineOptions | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        if runtime not in MODULES:
            raise InputError(f"'{runtime}' is no TensorRT runtime; it is one of {', '.join(MODULES)}")
        self._plan = plan
        self._name = runtime
        self._options = options or EngineOptions()
        self._manifest = manifest
        self._open: ExitStack | None = None
        self.notes: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        """Deserialise the plan.

        Raises:
            CapabilityError: no driver, GPU or library here, or the plan was not built for this machine.
            InputError: the file is no plan of this runtime.
        """
        reason = obstacle(self._name, self._manifest)
        if reason is not None:
            raise CapabilityError(f"{self._plan.name} cannot be run here: {reason}")
        trt, device = load(MODULES[self._name][0]), find_device()
        if trt is None or device is None:
            raise CapabilityError(f"the libraries of {self._name} were there a moment ago and are gone")
        self._trt, self._device = trt, device
        with ExitStack() as opened:
            opened.callback(self._let_go)
            self._load(trt)
            self._cache: Any = None
            self._config = self._configure(trt)
            self._pool = ContextPool(self._slot, self._options.contexts)
            opened.callback(self._keep_cache)
            opened.callback(self._pool.close)
            with self._pool.slot():  # whatever cannot be made is said now, not in the first call
                pass
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; names in, names out.

        Raises:
            InputError: a missing or unknown input, a dtype that is not the engine's, or shapes outside all of its
                profiles.
            CapabilityError: the runner was not entered, or the GPU reported an error.
        """
        return self.run_into(inputs, {})

    def run_into(
        self, inputs: Mapping[str, np.ndarray], into: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """:meth:`run`, with arrays of the caller for outputs of their names; InputError where one does not fit."""
        wanted = self._wanted(inputs)
        with self._pool.slot(wanted) as slot:
            return slot.run(inputs, wanted, into)

    def device_times(self, inputs: Mapping[str, np.ndarray]) -> GpuTimes:
        """Time many runs on the device itself, transfers apart (:mod:`.device_timing`).

        Raises:
            InputError, CapabilityError: as :meth:`run`; also where cuda-bindings is not installed.
        """
        wanted = self._wanted(inputs)
        device = self._device
        if not isinstance(device, BindingsDevice):
            raise CapabilityError(f"times on the device are taken through cuda-bindings: {INSTALL}")
        ways = device.cuda.cudaMemcpyKind
        with self._pool.slot() as slot:
            slot.settle(wanted)
            hosts = {name: np.ascontiguousarray(inputs[name]) for name in self.input_names}
            sends = [
                Copy(slot.address(n), h.ctypes.data, h.nbytes, ways.cudaMemcpyHostToDevice)
                for n, h in hosts.items()
            ]
            fetches = [
                Copy(h.ctypes.data, slot.address(n), h.nbytes, ways.cudaMemcpyDeviceToHost)
                for n, h in slot.results().items()
            ]
            context, handle = slot.context, device.handle(slot.stream)
            launch = lambda: bool(context.execute_async_v3(handle))  # noqa: E731
            return timed_pass(Device(device.call, device.cuda, slot.stream, launch), sends, fetches)

    def graph_refusals(self) -> tuple[str, ...]:
        """Why CUDA graphs could not be captured, where that was so; the engine then runs without them."""
        return self._pool.refusals() if self._open is not None else ()

    def _wanted(self, inputs: Mapping[str, np.ndarray]) -> Shapes:
        if self._open is None:
            raise CapabilityError("the runner is not open; use it as `with TensorRTRunner(...) as runner:`")
        if set(inputs) != set(self.input_names):
            raise InputError(
                f"the engine takes inputs {', '.join(self.input_names)}; "
                f"given were {', '.join(inputs) or 'none'}"
            )
        for name, kind in self._ends.inputs.items():
            if inputs[name].dtype != kind:
                raise InputError(f"input '{name}' must be {kind}, not {inputs[name].dtype}")
        shapes = {name: tuple(inputs[name].shape) for name in self.input_names}
        return choose(self.profiles, shapes), tuple(shapes.items())

    def _load(self, trt: ModuleType) -> None:
        data = self._plan.read_bytes()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        refuse_invalid(trt, self._runtime, data, self._plan)
        if self._name == "tensorrt-rtx" and _holds_plugins(data, self._manifest):
            from scconv_deploy.runtime.tensorrt_plugin import register

            # TensorRT's registry keeps pointers only: what it holds must live as long as the process.
            _CREATORS.extend(register(trt))
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise CapabilityError(
                f"{self._name} {trt.__version__} cannot load {self._plan.name} on this GPU; it was built for "
                "another version or compute capability (see the manifest), so export it again"
            )
        self._engine = engine
        self.notes = stream_weights(engine, self._options.weight_budget)
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inward = {n: engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        self.input_names = tuple(n for n in names if inward[n])
        self.output_names = tuple(n for n in names if not inward[n])
        self._ends = Ends(
            {n: dtype_of(trt, engine, n) for n in self.input_names},
            {n: dtype_of(trt, engine, n) for n in self.output_names},
        )
        self.profiles = of_engine(engine, self.input_names)
        self.device = _called(probe())
        self._cache_file = runtime_cache.file_for(data, str(trt.__version__), self.device)

    def _configure(self, trt: ModuleType) -> Any:
        """What TensorRT for RTX wants to know before a context is made; None where there is nothing to say."""
        if not hasattr(trt, "IRuntimeCache") or not hasattr(trt, "CudaGraphStrategy"):
            return None
        config = self._engine.create_runtime_config()
        if self._options.cuda_graphs:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if self._options.runtime_cache:
            self._device.close_stream(self._device.open_stream())  # the cache asks for a CUDA context
            self._cache = config.create_runtime_cache()
            kept = runtime_cache.read(self._cache_file)
            self._kept = kept if kept is not None and self._cache.deserialize(kept) else None
            known = (
                "kernels compiled before were taken from"
                if self._kept
                else "kernels compiled here are kept in"
            )
            self.notes += (f"{known} {self._cache_file}",)
            config.set_runtime_cache(self._cache)
        return config

    def _slot(self) -> Slot:
        config = self._config
        context = (
            self._engine.create_execution_context()
            if config is None
            else self._engine.create_execution_context(config)
        )
        if context is None:
            raise CapabilityError(
                f"{self._name} cannot make an execution context for {self._plan.name}: most likely the GPU's memory "
                "does not hold one more; ask for fewer contexts"
            )
        # TensorRT for RTX captures graphs by itself where it was told to.
        return Slot(context, self._device, self._ends, self._options.cuda_graphs and config is None)

    def _keep_cache(self) -> None:
        if self._cache is None:
            return
        found = self._cache.serialize()
        data = b"" if found is None else bytes(found)
        if data and data != self._kept:
            runtime_cache.write(self._cache_file, data)

    def _let_go(self) -> None:
        # The engine must go before the runtime that made it, and all that it made before it.
        self._config = self._cache = None
        self._engine = None
        self._runtime = None


def _holds_plugins(plan: bytes, manifest: Mapping[str, Any] | None) -> bool:
    """Whether a plan for RTX needs our plugins in this process; without a manifest its layers' names say so."""
    if manifest is not None and "form" in manifest:
        return str(manifest["form"]) == "plugin"
    return any(name.encode() in plan for name in operators())


def _called(gpu: Gpu | NoGpu) -> str:
    return f"{gpu.name} ({gpu.compute_capability})" if isinstance(gpu, Gpu) else "unknown GPU"
