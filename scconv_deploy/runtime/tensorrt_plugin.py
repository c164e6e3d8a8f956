"""Our CUDA kernels as TensorRT plugins of the kind ``IPluginV3``: what TensorRT for RTX takes.

A plugin is registered in the process that builds and in every process that runs the engine. Its PTX is compiled
while building (:mod:`scconv_deploy.kernels.ptx`) and travels inside the engine, so running needs cuda-bindings, but
neither NVRTC nor torch. What was launched here has never run on a GPU: unproved as of 2026-11-22.

Activations lie channels last where the kernels can do that (``HWC``: a layout transpose per edge less), else planar.
"""

# ruff: noqa: ARG002 - TensorRT fixes the signatures of its methods
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from scconv_deploy.errors import CapabilityError
from scconv_deploy.kernels.launch import (
    SPLITS,
    Launch,
    last_width,
    mix_launch,
    pool_launch,
    sru_launch,
)
from scconv_deploy.kernels.names import operators
from scconv_deploy.kernels.ptx import POOL, KernelSpec, Layout, compile_ptx
from scconv_deploy.runtime.cuda_kernel import Kernel

NAMESPACE = "scconv"
VERSION = "1"
DTYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
ATTRIBUTES = ("groups", "epsilon", "logit")


@dataclass(slots=True)
class State:
    """What a plugin is: its operator and attributes, and once configured the type, layout and PTX."""

    operator: str
    groups: int = 1
    epsilon: float = 0.0
    logit: float = 0.0
    dtype: str = "fp32"
    last: bool = False
    ptx: bytes = b""

    @property
    def layout(self) -> Layout:
        """Of the activations."""
        return Layout.LAST if self.last else Layout.PLANAR

    def launch(self, shape: Sequence[int]) -> Launch:
        """For the first input's (N, C, H, W)."""
        batch, channels, plane = shape[0], shape[1], math.prod(shape[2:])
        kind = self.operator.partition("_")[0]
        if kind.startswith("SRU"):
            attributes = {"groups": self.groups, "epsilon": self.epsilon, "logit": self.logit}
            return sru_launch(self.operator, self.dtype, self.layout, batch, channels, plane, attributes)
        each = channels // 2 if kind.endswith("Whole") else channels
        if kind.startswith(POOL):
            return pool_launch(self.operator, self.dtype, self.layout, batch, each, plane)
        return mix_launch(self.operator, self.dtype, self.layout, batch, each, plane, plane)

    def does_last(self, channels: int, dtype: str) -> bool:
        """Whether there is a channels-last kernel for a first input of so many channels."""
        return not self.operator.startswith("SRU") or last_width(channels, self.groups, dtype) is not None


def register(module: ModuleType) -> list[object]:
    """Register a creator for every operator with ``module`` (``tensorrt_rtx``); keep what is returned alive.

    Raises:
        CapabilityError: the registry refused one.
    """
    registry = module.get_plugin_registry()
    taken = {(c.name, c.plugin_namespace) for c in registry.all_creators}
    plugin = plugin_class(module)
    creators = [creator(module, plugin, name) for name in operators() if (name, NAMESPACE) not in taken]
    for made in creators:
        if not registry.register_creator(made, NAMESPACE):
            raise CapabilityError(f"{module.__name__} did not take the plugin {NAMESPACE}::{made.name}")
    return list(creators)


def creator(module: ModuleType, plugin: Any, operator: str) -> Any:
    """The ``IPluginCreatorV3One`` of one operator."""
    kinds = module.PluginFieldType
    fields = [
        module.PluginField("groups", np.zeros(1, np.int32), kinds.INT32),
        module.PluginField("epsilon", np.zeros(1, np.float32), kinds.FLOAT32),
        module.PluginField("logit", np.zeros(1, np.float32), kinds.FLOAT32),
    ]

    class Creator(module.IPluginCreatorV3One):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            module.IPluginCreatorV3One.__init__(self)
            self.name = operator
            self.plugin_namespace = NAMESPACE
            self.plugin_version = VERSION
            self.field_names = module.PluginFieldCollection(fields)

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            del name, phase  # the layer's name, not the operator's
            return plugin(_state(operator, fields))

    return Creator()


def plugin_class(module: ModuleType) -> Any:
    """The plugin's class over the base classes of ``module``; its constructor takes a :class:`State`."""
    bases = (
        module.IPluginV3,
        module.IPluginV3OneCore,
        module.IPluginV3OneBuild,
        module.IPluginV3OneRuntime,
    )

    class Plugin(*bases):  # type: ignore[misc]
        def __init__(self, state: State) -> None:
            for base in bases:
                base.__init__(self)
            self.state = state
            self.kernel: Kernel | None = None
            self.plugin_name = state.operator
            self.plugin_namespace = NAMESPACE
            self.plugin_version = VERSION
            spec = KernelSpec(state.operator, "fp32")
            self.num_outputs = len(spec.outputs)

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Plugin(State(**{f: getattr(self.state, f) for f in State.__slots__}))

        def get_output_data_types(self, types: list[Any]) -> list[Any]:
            is_pool = self.state.operator.startswith(POOL)
            return [module.DataType.FLOAT if is_pool else types[0]] * self.num_outputs

        def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> Any:
            return _output_shapes(module, self.state.operator, inputs, builder)

        def supports_format_combination(self, position: int, tensors: Any, inputs: int) -> bool:
            return _supports(module, self.state, position, [t.desc for t in tensors])

        def configure_plugin(self, inputs: Any, outputs: Any) -> None:
            first = inputs[0].desc
            self.state.dtype = DTYPES[first.type.name]
            self.state.last = first.format != module.TensorFormat.LINEAR
            channels = int(first.dims[1])
            # Type, layout and channels decide the kernel; batch, height and width only its launch.
            spec = self.state.launch((1, channels, 1, 1)).kernel
            self.state.ptx = compile_ptx(spec).text.encode()

        def get_workspace_size(self, inputs: Any, outputs: Any) -> int:
            return 0

        def get_valid_tactics(self) -> list[int]:
            return []

        def set_tactic(self, tactic: int) -> None:
            return None

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def on_shape_change(self, inputs: Any, outputs: Any) -> int:
            return 0

        def get_fields_to_serialize(self) -> Any:
            return module.PluginFieldCollection(_fields(module, self.state))

        def enqueue(
            self, inputs: Any, outputs: Any, sources: Any, results: Any, workspace: int, stream: int
        ) -> int:
            launch = self.state.launch(tuple(inputs[0].dims))
            if self.kernel is None:
                self.kernel = Kernel(self.state.ptx, launch.kernel.entry)
            self.kernel.launch(launch, [*sources], [*results], stream)
            return 0

    return Plugin


def _state(operator: str, fields: Any) -> State:
    given: dict[str, Any] = {}
    for field in fields:
        data = np.asarray(field.data)
        if field.name == "ptx":
            given["ptx"] = data.tobytes()
        elif field.name == "dtype":
            given["dtype"] = tuple(DTYPES.values())[int(data.reshape(-1)[0])]
        elif field.name == "last":
            given["last"] = bool(data.reshape(-1)[0])
        elif field.name == "groups":
            given["groups"] = int(data.reshape(-1)[0])
        elif field.name in ATTRIBUTES:
            given[field.name] = float(data.reshape(-1)[0])
    return State(operator, **given)


def _fields(module: ModuleType, state: State) -> list[Any]:
    kinds = module.PluginFieldType
    dtype = list(DTYPES.values()).index(state.dtype)
    whole = {"groups": state.groups, "dtype": dtype, "last": int(state.last)}
    real = {"epsilon": state.epsilon, "logit": state.logit}
    return [
        *(module.PluginField(k, np.array([v], np.int32), kinds.INT32) for k, v in whole.items()),
        *(module.PluginField(k, np.array([v], np.float32), kinds.FLOAT32) for k, v in real.items()),
        module.PluginField("ptx", np.frombuffer(state.ptx, np.int8), kinds.CHAR),
    ]


def _output_shapes(module: ModuleType, operator: str, inputs: Any, builder: Any) -> list[Any]:
    spec = KernelSpec(operator, "fp32")
    first = inputs[0]
    half = builder.operation(module.DimensionOperation.FLOOR_DIV, first[1], builder.constant(2))
    double = builder.operation(module.DimensionOperation.PROD, first[1], builder.constant(2))
    if operator.startswith(POOL):
        return [module.DimsExprs([first[0], builder.constant(SPLITS), first[1] if spec.is_whole else double])]
    halves = spec.outputs == ("y_a", "y_b") or (operator.startswith("CRUMix") and spec.is_whole)
    shapes = []
    for _ in spec.outputs:
        shape = module.DimsExprs(first)
        if halves:
            shape[1] = half
        shapes.append(shape)
    return shapes


def _supports(module: ModuleType, state: State, position: int, tensors: Sequence[Any]) -> bool:
    spec = KernelSpec(state.operator, "fp32")
    names = (*spec.inputs, *spec.outputs)
    first, this = tensors[0], tensors[position]
    if names[position] in ("scale", "shift", "weight", "mask", "parts"):
        return bool(this.type.name == "FLOAT" and this.format == module.TensorFormat.LINEAR)
    if first.type.name not in DTYPES:
        return False
    last = state.does_last(int(first.dims[1]), DTYPES[first.type.name])
    wanted = module.TensorFormat.HWC if last else module.TensorFormat.LINEAR
    return bool(this.type == first.type and this.format == wanted)
