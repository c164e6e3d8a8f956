"""Our CUDA kernels as quickly deployable plugins with an ahead-of-time implementation, for TensorRT from 10.9 on.

The engine then holds the PTX itself and needs neither Python nor the plugin. One operator is one kernel; its
arguments are inputs, 32-bit integers, outputs. Batch, height and width may be symbols: grid and integers are
expressions of them. Signatures are checked against the real bindings in ``tests/exporters/trt/test_plugin_quick.py``;
no engine was built with them here, since TensorRT builds only where there is a GPU: unproved as of 2026-11-22.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from scconv_deploy.errors import CapabilityError
from scconv_deploy.kernels.launch import (
    SPLITS,
    Launch,
    fuse_each,
    last_width,
    mix_launch,
    pool_launch,
    sru_launch,
)
from scconv_deploy.kernels.names import operators
from scconv_deploy.kernels.ptx import BYTES, POOL, KernelSpec, Layout, compile_ptx

NAMESPACE = "scconv"
DTYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
NAMES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}
CONSTANTS = ("scale", "shift", "weight", "mask", "parts")
VECTOR = 8
"""Channels of one vector of the formats HWC8: where they divide by it, it is the plain channels-last layout."""


def require(module: ModuleType) -> ModuleType:
    """``module.plugin``. Raises CapabilityError where this TensorRT has no ahead-of-time plugins."""
    try:
        plugin = importlib.import_module(f"{module.__name__}.plugin")
    except ImportError:
        plugin = None
    if plugin is None or not hasattr(plugin, "aot_impl"):
        raise CapabilityError(
            f"TensorRT {module.__version__} has no ahead-of-time plugins; install TensorRT 10.9 or later, or leave "
            "out --form plugin"
        )
    return plugin


def register(module: ModuleType) -> list[object]:
    """Register every operator with ``module`` (``tensorrt``); keep what is returned alive.

    Raises:
        CapabilityError: as :func:`require`.
    """
    plugin = require(module)
    return [define(plugin, module, name) for name in operators() if not _is_defined(plugin, name)]


def define(plugin: Any, module: ModuleType, operator: str) -> object:
    """Describe one operator: what it returns, which types and layouts it takes, and its kernel."""
    spec = KernelSpec(operator, "fp32")
    attributes = attributes_of(operator)
    identity = f"{NAMESPACE}::{operator}"
    tensors = dict.fromkeys(spec.inputs, plugin.TensorDesc)
    results = tuple[tuple([plugin.TensorDesc] * len(spec.outputs))]  # type: ignore[misc,valid-type]
    signed = {**tensors, **attributes}

    def describe(*given: Any, **named: Any) -> Any:
        return _described(plugin, module, spec, _bound(signed, given, named))

    def autotune(*given: Any, **named: Any) -> Any:
        return _combinations(plugin, spec, _bound({**signed, "outputs": None}, given, named))

    def implement(*given: Any, **named: Any) -> Any:
        bound = _bound({**signed, "outputs": None, "tactic": None}, given, named)
        return _implemented(plugin, module, operator, bound)

    kernel = tuple[str | bytes, str | bytes, plugin.KernelLaunchParams, plugin.SymIntExprs]
    _sign(describe, signed, results)
    _sign(autotune, {**signed, "outputs": results}, list[plugin.AutoTuneCombination])
    _sign(implement, {**signed, "outputs": results, "tactic": int}, kernel)
    described = plugin.register(identity)(describe)
    plugin.autotune(identity)(autotune)
    plugin.aot_impl(identity)(implement)
    return described


def attributes_of(operator: str) -> dict[str, Any]:
    """Names and types of an operator's attributes, in their order."""
    if not operator.startswith("SRU"):
        return {}
    # Arrays of one value, not int and float: TensorRT 10 and 11 convert those with float(array), which NumPy refuses
    # from 2.4 on ("only 0-dimensional arrays can be converted").
    real = npt.NDArray[np.float32]
    return {"groups": npt.NDArray[np.int32], "epsilon": real} | (
        {} if "static" in operator.split("_") else {"logit": real}
    )


def _is_defined(plugin: ModuleType, operator: str) -> bool:
    home = getattr(plugin.op, NAMESPACE, None)
    return home is not None and operator in vars(home)


def _sign(function: Any, parameters: Mapping[str, Any], result: Any) -> None:
    """TensorRT reads names, types and result from the signature; ours depend on the operator."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(
        [inspect.Parameter(name, kind, annotation=a) for name, a in parameters.items()],
        return_annotation=result,
    )


def _bound(names: Mapping[str, Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, given, strict=False)), **named}


def _described(plugin: ModuleType, module: ModuleType, spec: KernelSpec, bound: Mapping[str, Any]) -> Any:
    first = bound[spec.inputs[0]]
    shape = first.shape_expr
    made = []
    for name in spec.outputs:
        if name == "parts":
            channels = shape[1] if spec.is_whole else shape[1] * 2
            sizes = (shape[0], plugin.ShapeExpr(SPLITS), channels)
            made.append(plugin.from_shape_expr(sizes, module.DataType.FLOAT))
            continue
        like = first.like()
        if name in ("y_a", "y_b") or (name == "out" and spec.is_whole):
            like.shape_expr[1] = shape[1] // 2
        made.append(like)
    return tuple(made)


def _combinations(plugin: ModuleType, spec: KernelSpec, bound: Mapping[str, Any]) -> list[Any]:
    """One per type and layout; TensorRT times them and takes the fastest."""
    first = bound[spec.inputs[0]]
    channels = int(first.shape[1])
    each = channels // 2 if spec.is_whole and not spec.operator.startswith("SRU") else channels
    found = []
    for dtype, name in NAMES.items():
        formats = ["LINEAR"]
        if _does_last(spec, dtype, channels, each, bound):
            formats.append("HWC" if dtype == "fp32" else "HWC8")
        for layout in formats:
            combination = plugin.AutoTuneCombination()
            for position, tensor in enumerate((*spec.inputs, *spec.outputs)):
                is_constant = tensor in CONSTANTS
                combination.pos(
                    [position], "FP32" if is_constant else name, "LINEAR" if is_constant else layout
                )
            found.append(combination)
    return found


def _does_last(spec: KernelSpec, dtype: str, channels: int, each: int, bound: Mapping[str, Any]) -> bool:
    """Whether a channels-last kernel does it; HWC8 pads channels, so they must divide by 8, halves too."""
    vectors = BYTES[dtype] == 4 or (channels // 2 if spec.operator.startswith("SRU") else each) % VECTOR == 0
    if not spec.operator.startswith("SRU"):
        return vectors and fuse_each(each, dtype) > 1
    return vectors and last_width(channels, int(_number(bound["groups"])), dtype) is not None


def _implemented(
    plugin: ModuleType, module: ModuleType, operator: str, bound: Mapping[str, Any]
) -> tuple[str, str, Any, Any]:
    first = bound[KernelSpec(operator, "fp32").inputs[0]]
    dtype = DTYPES[first.dtype.name]
    layout = Layout.PLANAR if first.format == module.TensorFormat.LINEAR else Layout.LAST
    launch = _launch(plugin, operator, dtype, layout, first, bound)
    ptx = compile_ptx(launch.kernel)
    parameters = plugin.KernelLaunchParams()
    parameters.grid_x = launch.grid
    parameters.block_x = launch.block
    extras = plugin.SymIntExprs(len(launch.extras))
    for index, value in enumerate(launch.extras):
        extras[index] = plugin.SymInt32(value)
    return ptx.entry, ptx.text, parameters, extras


def _launch(
    plugin: ModuleType, operator: str, dtype: str, layout: Layout, first: Any, bound: Mapping[str, Any]
) -> Launch:
    shape = first.shape_expr
    batch, plane, channels = shape[0], shape[2] * shape[3], int(first.shape[1])
    kind = operator.partition("_")[0]
    if kind.startswith("SRU"):
        attributes = {name: _number(bound[name]) for name in attributes_of(operator)}
        return sru_launch(operator, dtype, layout, batch, channels, plane, attributes)
    each = channels // 2 if kind.endswith("Whole") else channels
    if kind.startswith(POOL):
        return pool_launch(operator, dtype, layout, batch, each, plane)
    cdiv: Callable[[Any, int], Any] = plugin.cdiv
    typical = _typical_plane(first)
    return mix_launch(operator, dtype, layout, batch, each, plane, typical, cdiv)


def _number(value: Any) -> float:
    return float(np.asarray(value).reshape(-1)[0])


def _typical_plane(first: Any) -> int:
    opt = first.shape.opt if first.shape.is_dynamic else first.shape
    return int(opt[2]) * int(opt[3])
