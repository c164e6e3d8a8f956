"""Models of one fused operator, and sessions with and without the library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from scconv_deploy.scconv.fused_ops import DOMAIN, attach_functions
from tests.kernels.reference import SRUCase

OPSET = 20


def sru_model(case: SRUCase, dtype: type[np.floating], opset: int = OPSET) -> onnx.ModelProto:
    """x of free shape -> y_a, y_b."""
    return _model(case.operator, {"x": dtype}, ("y_a", "y_b"), case.inputs(), case.attributes(), opset)


def fuse_model(
    operator: str,
    constants: Mapping[str, np.ndarray],
    dtype: type[np.floating],
    opset: int = OPSET,
) -> onnx.ModelProto:
    """y1, y2 of free shape -> out."""
    taken = constants if "affine" in operator.split("_") else {}
    return _model(operator, {"y1": dtype, "y2": dtype}, ("out",), taken, {}, opset)


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
        operator, [*inputs, *constants], list(outputs), name=operator, domain=DOMAIN, **attributes
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
    attach_functions(model)
    return model
