"""An OpenVINO model (``model.xml`` + ``model.bin``) -> a runner on one named device, never silently another.

Types are the model's own: fp32 models run with the inference precision f32, models that hold fp16 or bf16 with
``dynamic``, which keeps the type of every operator. OpenVINO's usual hint (``bf16`` where the CPU has it) would
also compute the gate's float32 island in bf16 and flip its decisions.

A model with free axes is compiled once per input shape, up to :data:`SPECIALISED` of them, and once with free
axes for all further ones: the CPU plugin runs SCConv-ResNet-50 with a free batch at 1.3 times the latency of the
same model with its batch fixed (fp32, batch 1 and 8, 2 threads, 2026-11-22; bf16: 1.7 and 1.9 times). Where the
model has the fused kernels and the shape is known, :mod:`openvino_blocks` makes each block one operator.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import openvino as ov

from scconv_deploy.errors import CapabilityError, InputError, first_line
from scconv_deploy.kernels import openvino_extension
from scconv_deploy.runtime.dtypes import BFLOAT16, numpy_dtype
from scconv_deploy.runtime.openvino_blocks import join_blocks
from scconv_deploy.runtime.openvino_core import extend, process_core

CPU = "CPU"
SPECIALISED = 4
"""Input shapes that get a compiled model of their own; each holds its own copy of the packed weights."""

PRECISION_HINT = "INFERENCE_PRECISION_HINT"
THREADS = "INFERENCE_NUM_THREADS"
HALVES = {ov.Type.f16: "FP16", ov.Type.bf16: "BF16"}
"""Half type -> its word among a device's capabilities."""


class OpenVINORunner:
    """Runs an OpenVINO model. Thread-safe: every call has an infer request of its own, from a pool.

    Args:
        artifact: path of the ``.xml``; the ``.bin`` lies beside it.
        threads: inference threads on CPU; None leaves the choice to OpenVINO.
        provider: the device's name as OpenVINO has it ("CPU", "GPU.0").
        hint: inference precision ("f32", "bf16", ...); None keeps the model's own types.
        join: whether SCConv blocks may become one operator each.

    Attributes:
        precision_hint: the inference precision that was set, and read back from the compiled model.

    Raises:
        CapabilityError: the device is not here, or does not compute a type that the model has; the model has the
            fused kernels and they cannot be compiled here.
        InputError: OpenVINO cannot read or compile the model; threads for a device that is no CPU.
    """

    def __init__(
        self,
        artifact: Path,
        threads: int | None = None,
        provider: str = CPU,
        hint: str | None = None,
        join: bool = True,
    ) -> None:
        _check_device(provider, threads)
        self._device, self._threads = provider, threads
        self._library: Path | None = None
        if openvino_extension.holds_fused_nodes(artifact):
            library = _add_kernels(provider)
            self._library = library if join else None
        try:
            self._model = process_core().read_model(artifact)
        except Exception as error:
            raise InputError(f"OpenVINO cannot read {artifact.name}: {_reason(error)}") from error
        self._name = artifact.name
        halves = half_types(self._model)
        _check_types(provider, halves, artifact.name)
        self.precision_hint = hint or ("dynamic" if halves else "f32")
        self.input_names: tuple[str, ...] = tuple(port.any_name for port in self._model.inputs)
        self.output_names: tuple[str, ...] = tuple(port.any_name for port in self._model.outputs)
        self._ports = tuple(_Port.of(port) for port in self._model.inputs)
        self._is_free = any(port.shape.is_dynamic for port in self._ports)
        self._lock = threading.Lock()
        self._compiled: dict[tuple[tuple[int, ...], ...] | None, _Compiled] = {}
        self._open = True
        if not self._is_free:
            self._for(None)  # a model that cannot be compiled is refused here, not at the first call

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; names in, names out.

        Raises:
            InputError: a missing or unknown input, or a shape or dtype the model refuses; or closed.
        """
        if set(inputs) != set(self.input_names):
            raise InputError(
                f"the model takes inputs {', '.join(self.input_names)}; given were {', '.join(inputs) or 'none'}"
            )
        if not self._open:
            raise InputError("this runner is closed")
        arrays = [np.ascontiguousarray(inputs[name]) for name in self.input_names]
        self._check_inputs(arrays)
        compiled = self._for(tuple(a.shape for a in arrays) if self._is_free else None)
        try:
            return dict(zip(self.output_names, compiled.run(arrays), strict=True))
        except Exception as error:
            raise InputError(f"OpenVINO refused the inputs: {_reason(error)}") from error

    def runtime_model(self, shapes: Mapping[str, tuple[int, ...]]) -> ov.Model:
        """What OpenVINO made of the model for inputs of these shapes: kernels with their types and layouts.

        Raises:
            InputError: these shapes do not fit the model.
        """
        wanted = tuple(tuple(shapes[name]) for name in self.input_names) if self._is_free else None
        return self._for(wanted).compiled.get_runtime_model()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._compiled = {}

    def _check_inputs(self, arrays: list[np.ndarray]) -> None:
        """OpenVINO would read the bytes of another type as its own."""
        for port, array in zip(self._ports, arrays, strict=True):
            # Comparing with None compares with float64; a name costs more than the comparison that it saves.
            if (port.dtype is None or array.dtype != port.dtype) and array.dtype.name != port.kind:
                raise InputError(
                    f"input '{port.name}' must be {port.kind}, not {array.dtype.name}; convert it"
                )
            if array.shape != port.fixed and not port.shape.compatible(ov.PartialShape(list(array.shape))):
                raise InputError(
                    f"input '{port.name}' has shape {list(array.shape)}; the model takes {port.shape}"
                )

    def _for(self, shapes: tuple[tuple[int, ...], ...] | None) -> _Compiled:
        found = self._compiled.get(shapes)
        if found is not None:
            return found
        with self._lock:
            full = sum(key is not None for key in self._compiled) >= SPECIALISED
            key = None if full and shapes not in self._compiled else shapes
            if key not in self._compiled:
                self._compiled[key] = self._compile(key)
            return self._compiled[key]

    def _compile(self, shapes: tuple[tuple[int, ...], ...] | None) -> _Compiled:
        own = {} if self._threads is None else {THREADS: self._threads}
        settings: dict[str, Any] = {PRECISION_HINT: self.precision_hint, "PERFORMANCE_HINT": "LATENCY", **own}
        make = partial(process_core().compile_model, device_name=self._device, config=settings)
        try:
            model = self._model.clone()
            if shapes is not None:
                model.reshape({p.any_name: list(s) for p, s in zip(model.inputs, shapes, strict=True)})
            if self._library is not None and (shapes is not None or not self._is_free):
                join_blocks(model, self._library, make)
            compiled = make(model)
        except Exception as error:
            where = f"{self._name} for {self._device}"
            raise InputError(f"OpenVINO cannot compile {where}: {_reason(error)}") from error
        used = compiled.get_property(PRECISION_HINT)
        if used != getattr(ov.Type, self.precision_hint):
            raise CapabilityError(
                f"OpenVINO on {self._device} computes {self._name} with the inference precision "
                f"{used.to_string()} where {self.precision_hint} was asked for; nothing was run"
            )
        return _Compiled(compiled)


class _Port(NamedTuple):
    """An input of the model, read once: asking OpenVINO for it costs microseconds in every call.

    ``dtype`` is None where NumPy does not know the type ``kind``, ``fixed`` where an axis is free.
    """

    name: str
    kind: str
    dtype: np.dtype[Any] | None
    shape: Any
    fixed: tuple[int, ...] | None

    @classmethod
    def of(cls, port: Any) -> _Port:
        kind, shape = element_name(port.element_type), port.partial_shape
        return cls(
            port.any_name,
            kind,
            None if kind == BFLOAT16 else np.dtype(kind),
            shape,
            None if shape.is_dynamic else tuple(shape.to_shape()),
        )


class _Compiled:
    """A compiled model and its idle infer requests."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self._outputs = range(len(compiled.outputs))
        self._idle: list[Any] = []

    def run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        try:
            request = self._idle.pop()  # atomic, as is append
        except IndexError:
            request = self.compiled.create_infer_request()
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, _tensor(array))
        request.infer()
        # Copies: the request's own memory is written again by whoever takes it next.
        values = [_array(request.get_output_tensor(i)) for i in self._outputs]
        self._idle.append(request)
        return values


def half_types(model: ov.Model) -> set[ov.Type]:
    """The 16-bit floating types that any operator of the model gives."""
    given = {port.get_element_type() for op in model.get_ops() for port in op.outputs()}
    return {kind for kind in HALVES if kind in given}


def missing_types(halves: set[ov.Type], device: str = CPU) -> str | None:
    """Those of the model's 16-bit types that the device does not compute, in words; None where it has them all."""
    known = process_core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    missing = sorted(word.lower() for kind, word in HALVES.items() if kind in halves and word not in known)
    return ", ".join(missing) or None


def element_name(kind: ov.Type) -> str:
    """NumPy's name of an element type, ``bfloat16`` included."""
    return BFLOAT16 if kind == ov.Type.bf16 else str(np.dtype(kind.to_dtype()).name)


def version() -> str:
    """OpenVINO's version, as its wheel states it: ``2026.4.0``."""
    return str(ov.__version__).partition("-")[0]


def _check_device(provider: str, threads: int | None) -> None:
    devices = process_core().available_devices
    if provider not in devices and provider not in {d.partition(".")[0] for d in devices}:
        raise CapabilityError(
            f"OpenVINO {version()} finds no device {provider} here; available: {', '.join(devices)}"
        )
    if threads is not None and provider != CPU:
        raise InputError(f"a number of threads can be set for {CPU}, not for {provider}; leave it out")


def _add_kernels(provider: str) -> Path:
    if provider != CPU:
        raise CapabilityError(
            f"this bundle has fused kernels (--form plugin), which are for {CPU}, not for {provider}; export with "
            "--form standard for it"
        )
    library = openvino_extension.library()
    try:
        extend(library)
    except Exception as error:
        raise CapabilityError(
            f"OpenVINO {version()} cannot load the fused kernels in {library}: {_reason(error)}; delete that file to "
            "have it compiled again"
        ) from error
    return library


def _check_types(provider: str, halves: set[ov.Type], name: str) -> None:
    missing = missing_types(halves, provider) if halves else None
    if missing is not None:
        known = ", ".join(process_core().get_property(provider, "OPTIMIZATION_CAPABILITIES"))
        raise CapabilityError(
            f"{name} computes in {missing}, which OpenVINO {version()} does not compute on this {provider} "
            f"(it has {known}); run it on another device, or export with --precision fp32"
        )


def _tensor(array: np.ndarray) -> Any:
    if array.dtype.kind == "V" and array.dtype.name == BFLOAT16:  # the kind alone costs nothing to ask
        return ov.Tensor(array.view(np.uint16), ov.Shape(array.shape), ov.Type.bf16)
    return ov.Tensor(array, shared_memory=True)


def _array(tensor: Any) -> np.ndarray:
    if tensor.element_type != ov.Type.bf16:
        return np.array(tensor.data)
    # Its own view of bfloat16 is float16 of the same bits.
    return np.array(tensor.data).view(np.uint16).view(numpy_dtype(BFLOAT16))


def _reason(error: Exception) -> str:
    """OpenVINO's messages begin with its source files; the sentence is the last line that holds words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return told[-1] if told else first_line(error)
