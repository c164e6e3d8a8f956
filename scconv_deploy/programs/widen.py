"""A half-precision ONNX model -> the same graph in float32, with the stored values kept exactly.

Every float16 or bfloat16 value fits into float32. What is then built in half is typed by this package (the gate in
full precision), not by whoever rounded the old file operator by operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

HALVES = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
TYPE_ATTRIBUTES = frozenset({"to", "dtype"})
"""Attributes that name an element type (Cast, RandomNormal, EyeLike...)."""


def widen(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str | None]:
    """A float32 copy and a sentence, or the model itself and None where nothing is in half precision."""
    halves = sorted({HALVES[t] for t in _types(model) if t in HALVES})
    if not halves:
        return model, None
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    _widen_tensors(graph.initializer)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type in HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen_tensors([attribute.t])
            elif attribute.name in TYPE_ATTRIBUTES and attribute.i in HALVES:
                attribute.i = TensorProto.FLOAT
    sentence = (
        f"the program is stored in {' and '.join(halves)}; it was read with its stored values in float32, which is "
        "what the artifact is verified against"
    )
    return wide, sentence


def _types(model: onnx.ModelProto) -> Iterator[int]:
    graph = model.graph
    yield from (t.data_type for t in graph.initializer)
    yield from (v.type.tensor_type.elem_type for v in [*graph.input, *graph.output, *graph.value_info])
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t.data_type
            elif attribute.name in TYPE_ATTRIBUTES:
                yield attribute.i


def _widen_tensors(tensors: Iterable[onnx.TensorProto]) -> None:
    for tensor in tensors:
        if tensor.data_type in HALVES:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
