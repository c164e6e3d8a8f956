"""A graph's floating inputs and outputs -> the same graph taking and giving another floating type.

Traced in fp16 or bf16 a graph takes and gives that type. Applications mostly hold float32, and a Cast at the
border costs less than a conversion outside; so the outside type is the user's choice (``--io-dtype``) and the
inside one the precision's. Names stay those of the tensors outside; integers and booleans stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from scconv_deploy.config import Precision

FLOATING = {
    Precision.FP32: onnx.TensorProto.FLOAT,
    Precision.FP16: onnx.TensorProto.FLOAT16,
    Precision.BF16: onnx.TensorProto.BFLOAT16,
}


def set_io_types(model: onnx.ModelProto, outside: Precision) -> None:
    """Give every float32, fp16 or bf16 input and output of the main graph the type ``outside``, in place."""
    wanted = FLOATING[outside]
    graph = model.graph
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    for value in graph.input:
        if _differs(value, wanted):
            inside = _free(f"{value.name}_inside", taken)
            _rename_reads(graph, value.name, inside)
            before.append(_cast(value.name, inside, value, f"Cast_of_input_{value.name}"))
            graph.value_info.append(_inner(value, inside))
            value.type.tensor_type.elem_type = wanted
    for value in graph.output:
        if _differs(value, wanted):
            inside = _free(f"{value.name}_inside", taken)
            _rename_everywhere(graph, value.name, inside)
            graph.value_info.append(_inner(value, inside))
            value.type.tensor_type.elem_type = wanted
            after.append(_cast(inside, value.name, value, f"Cast_to_output_{value.name}"))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def _differs(value: onnx.ValueInfoProto, wanted: int) -> bool:
    kind = value.type.tensor_type.elem_type
    return kind in FLOATING.values() and kind != wanted


def _cast(source: str, result: str, value: onnx.ValueInfoProto, name: str) -> onnx.NodeProto:
    """A Cast whose type is read from ``value``, which holds the result's type at the moment of the call."""
    kind = value.type.tensor_type.elem_type
    return onnx.helper.make_node("Cast", [source], [result], name=name, to=kind)


def _inner(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    made = onnx.ValueInfoProto()
    made.CopyFrom(value)
    made.name = name
    return made


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _all_nodes(inner)


def _rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Subgraphs may read values of the outer graph; a name is given once, so no inner value has it."""
    for node in _all_nodes(graph):
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _rename_everywhere(graph: onnx.GraphProto, old: str, new: str) -> None:
    _rename_reads(graph, old, new)
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == old:
                node.output[index] = new
