"""This machine -> its two ceilings: float32 arithmetic and memory bandwidth, measured in under two seconds.

Measured through ONNX Runtime with the threads of the measurement, since that is what runs the models: a large
matrix product, a large 3x3 convolution, and an addition of two arrays far beyond the caches. The fastest of
several runs counts: a ceiling is what the machine can, not what it does on average.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import psutil

from scconv_deploy.profiles import Ceilings

SIDE = 1024
"""Of the square matrices: 2.1 GFLOP a product."""

CHANNELS, IMAGE = 256, 56
"""Of the convolution: 3.7 GFLOP."""

ARRAY_MIB = 192
"""Of each of three arrays: together beyond the 480 MiB of the largest cache seen."""

SECONDS = 0.15
"""For each of the three operators, beside the first run."""

MIN_RUNS = 3
OPSET = 20
HOW = (
    f"the fastest of several runs in ONNX Runtime: {SIDE}x{SIDE} matrix product, 3x3 convolution of {CHANNELS} "
    f"channels at {IMAGE}x{IMAGE}, sum of two arrays of {ARRAY_MIB} MiB"
)


def ceilings(
    threads: int, seconds: float = SECONDS, array_mib: int = ARRAY_MIB, side: int = SIDE, image: int = IMAGE
) -> Ceilings:
    """Measure. The smaller sizes are for tests: arrays that fit a cache would measure the cache."""
    # A machine with little memory left gets smaller arrays rather than a swap storm.
    fitting = psutil.virtual_memory().available // 2**20 // 8
    elements = max(1, min(array_mib, fitting)) * 2**18
    product = 2 * side**3 / _fastest(_product(side, threads), seconds)
    taps = 2 * CHANNELS * CHANNELS * 9 * image * image
    convolution = taps / _fastest(_convolution(image, threads), seconds)
    moved = 3 * 4 * elements / _fastest(_sum(elements, threads), seconds)
    return Ceilings(threads, max(product, convolution) / 1e9, moved / 1e9, HOW)


def _fastest(call: Callable[[], object], seconds: float) -> float:
    call()
    best, start, runs = float("inf"), time.perf_counter(), 0
    while runs < MIN_RUNS or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - before)
        runs += 1
    return max(best, 1e-9)


def _product(side: int, threads: int) -> Callable[[], object]:
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    return _session(node, {"a": (side, side)}, {"b": _noise(side, side)}, (side, side), threads)


def _convolution(image: int, threads: int) -> Callable[[], object]:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    shape = (1, CHANNELS, image, image)
    return _session(node, {"x": shape}, {"w": _noise(CHANNELS, CHANNELS, 3, 3)}, shape, threads)


def _sum(elements: int, threads: int) -> Callable[[], object]:
    node = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    return _session(node, {"a": (elements,), "b": (elements,)}, {}, (elements,), threads)


def _session(
    node: onnx.NodeProto,
    inputs: dict[str, tuple[int, ...]],
    constants: dict[str, np.ndarray],
    out: tuple[int, ...],
    threads: int,
) -> Callable[[], object]:
    """One operator on memory that is there already, output included: allocating is not what is measured."""
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "probe",
        [onnx.helper.make_tensor_value_info(n, kind, s) for n, s in inputs.items()],
        [onnx.helper.make_tensor_value_info(node.output[0], kind, out)],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    model.ir_version = 10
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding: Any = session.io_binding()
    held = [(name, ort.OrtValue.ortvalue_from_numpy(_noise(*shape))) for name, shape in inputs.items()]
    for name, value in held:
        binding.bind_ortvalue_input(name, value)
    binding.bind_ortvalue_output(node.output[0], ort.OrtValue.ortvalue_from_numpy(np.zeros(out, np.float32)))
    return lambda: session.run_with_iobinding(binding)


def _noise(*shape: int) -> np.ndarray:
    """Not zeros: some kernels and memory pages are faster on these. A megabyte of it repeats."""
    return np.resize(np.random.default_rng(0).standard_normal(2**18, dtype=np.float32), shape)
