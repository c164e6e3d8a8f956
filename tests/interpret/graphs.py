"""Small ONNX models for the tests, and ONNX Runtime's answer to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

IR = 8
KINDS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "bool": TensorProto.BOOL,
}


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[str, Sequence[Any]]],
    outputs: Sequence[str],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of these nodes; inputs as name -> (dtype name, shape), outputs without types."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, KINDS[kind], list(shape)) for n, (kind, shape) in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR)


def one_node(
    op_type: str,
    arrays: Sequence[np.ndarray],
    constants: Mapping[int, np.ndarray] | None = None,
    opset: int = 18,
    outputs: int = 1,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """One node with fed inputs ``arrays`` first and constant inputs at the given places; its feeds."""
    constants = constants or {}
    count = len(arrays) + len(constants)
    fed = iter(arrays)
    names, feeds, stored = [], {}, {}
    for place in range(count):
        names.append(f"v{place}")
        if place in constants:
            stored[f"v{place}"] = constants[place]
        else:
            feeds[f"v{place}"] = next(fed)
    made = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, made, name="it", **attributes)
    kinds = {n: (a.dtype.name, a.shape) for n, a in feeds.items()}
    return model([node], kinds, made, stored, opset), feeds


def ort_run(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """ONNX Runtime's outputs, its graph optimisation off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))
