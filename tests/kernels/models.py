"""Models of one fused operator, and sessions with and without the library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from scconv_deploy.scconv.fused_ops import DOMAIN, VERSION, attach_functions
from tests.kernels.reference import SRUCase

OPSET = 20


def sru_model(case: SRUCase, dtype: type[np.floating], opset: int = OPSET, block: int = 0) -> onnx.ModelProto:
    """x of free shape -> y_a, y_b; with ``block``, all of them in blocks, and without the function."""
    attributes = case.attributes() | ({"block": block} if block else {})
    return _model(case.operator, {"x": dtype}, ("y_a", "y_b"), case.inputs(), attributes, opset)


def fuse_model(
    operator: str,
    constants: Mapping[str, np.ndarray],
    dtype: type[np.floating],
    opset: int = OPSET,
    block: int = 0,
) -> onnx.ModelProto:
    """y1, y2 (and what is added) of free shape -> out; ``block`` as in :func:`sru_model`."""
    flags = operator.split("_")
    taken = {k: v for k, v in constants.items() if k in ("scale", "shift")} if "affine" in flags else {}
    inputs = {"y1": dtype, "y2": dtype} | ({"added": dtype} if "add" in flags else {})
    return _model(operator, inputs, ("out",), taken, {"block": block} if block else {}, opset)


def in_blocks(x: np.ndarray, block: int) -> np.ndarray:
    """(N, C, H, W) in the order of ONNX Runtime's blocked layout; the shape stays."""
    n, c, h, w = x.shape
    ordered = x.reshape(n, c // block, block, h * w).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(ordered).reshape(x.shape)


def from_blocks(x: np.ndarray, block: int) -> np.ndarray:
    """The inverse of :func:`in_blocks`."""
    n, c, h, w = x.shape
    ordered = x.reshape(n, c // block, h * w, block).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(ordered).reshape(x.shape)


def session(model: onnx.ModelProto, library: Path | None, threads: int = 1) -> ort.InferenceSession:
    """With the kernels of ``library``, or on the function bodies."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _model(
    operator: str,
    inputs: Mapping[str, type[np.floating]],
    outputs: tuple[str, ...],
    constants: Mapping[str, np.ndarray],
    attributes: Mapping[str, float | int],
    opset: int,
) -> onnx.ModelProto:
    kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(d)) for name, d in inputs.items()}
    node = onnx.helper.make_node(
        operator,
        [*(n for n in inputs if n != "added"), *constants, *(n for n in inputs if n == "added")],
        list(outputs),
        name=operator,
        domain=DOMAIN,
        **attributes,
    )
    kind = next(iter(kinds.values()))
    graph = onnx.helper.make_graph(
        [node],
        operator,
        [onnx.helper.make_tensor_value_info(n, k, ["N", "C", "H", "W"]) for n, k in kinds.items()],
        [onnx.helper.make_tensor_value_info(n, kind, ["N", f"C_{n}", "H", "W"]) for n in outputs],
        [onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    model.ir_version = 9
    if "block" in attributes:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    else:
        attach_functions(model)
    return model
