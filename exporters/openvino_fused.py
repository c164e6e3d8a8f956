"""An ONNX graph with ``scconv::`` nodes -> an OpenVINO model with the extension's operators.

``SRU_*`` and ``CRUFuse_*`` become ``scconv::SRU`` and ``scconv::CRUFuse`` between Transposes to (N, H, W, C) and
back, which OpenVINO drops where its convolutions work in that layout. On the way, exact in real arithmetic:

* a Relu that alone reads a fuse's result goes into it;
* ``Y1 = GWC + PWC1`` stays two tensors, which the fuse adds. OpenVINO lets one of the convolutions add the other's
  result in place, and then really carries out the Transpose behind it: 2 of 23 ms in SCConv-ResNet-50 (fp32, batch
  1, 2 threads, 2026-11-22). Rounded to 16 bits, the sum of the two is one rounding fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from scconv_deploy.scconv.fused_ops import DOMAIN, FUSE, SRU, is_fused
from scconv_deploy.scconv.spec import Gate

if TYPE_CHECKING:
    import openvino as ov

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
PARTS = "_parts"
"""Ends the name of a fuse that takes Y1 in two parts; only between the two steps here."""
GATES = {
    gate.value: index for index, gate in enumerate((Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT, Gate.STATIC))
}


def read_fused(model: onnx.ModelProto, library: Path) -> ov.Model:
    """Convert; the argument stays as it is.

    Raises:
        RuntimeError: OpenVINO's own, where it cannot convert a node.
    """
    import openvino as ov
    from openvino.frontend.onnx import ConversionExtension
    from openvino.utils.node_factory import NodeFactory

    given = onnx.ModelProto()
    given.CopyFrom(model)
    del given.functions[:], given.graph.value_info[:]
    _take_relus(given.graph)
    _take_sums(given.graph)
    core = ov.Core()
    core.add_extension(library)
    factory = NodeFactory()
    factory.add_extension(library)
    for operator in sorted({n.op_type for n in given.graph.node if is_fused(n)}):
        core.add_extension(ConversionExtension(operator, DOMAIN, _converter(factory, operator)))
    made = core.read_model(given.SerializeToString())
    _name(made, given.graph)
    return made


def _take_relus(graph: onnx.GraphProto) -> None:
    readers = _readers(graph)
    outside = {value.name for value in graph.output}
    taken: list[str] = []
    for node in graph.node:
        if not _is_fuse(node) or node.output[0] in outside:
            continue
        reading = readers.get(node.output[0], [])
        if len(reading) == 1 and reading[0].op_type == "Relu":
            node.op_type += "_relu"
            node.output[0] = reading[0].output[0]
            taken.append(reading[0].name)
    _drop(graph, taken)


def _take_sums(graph: onnx.GraphProto) -> None:
    readers = _readers(graph)
    makers = {value: node for node in graph.node for value in node.output}
    outside = {value.name for value in graph.output}
    taken: list[str] = []
    for node in graph.node:
        if not _is_fuse(node):
            continue
        add = makers.get(node.input[0])
        is_sum = add is not None and add.op_type == "Add" and node.input[0] not in outside
        if not is_sum or add is None or len(readers[node.input[0]]) != 1:
            continue
        if all(value in makers and makers[value].op_type == "Conv" for value in add.input):
            _, y2, *constants = node.input
            del node.input[:]
            node.input.extend([add.input[0], y2, add.input[1], *constants])
            node.op_type += PARTS
            taken.append(add.name)
    _drop(graph, taken)


def _is_fuse(node: onnx.NodeProto) -> bool:
    return is_fused(node) and node.op_type.startswith(f"{FUSE}_")


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for value in node.input:
            found.setdefault(value, []).append(node)
    return found


def _drop(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    kept = [node for node in graph.node if node.name not in names]
    del graph.node[:]
    graph.node.extend(kept)


def _converter(factory: Any, operator: str) -> Callable[[Any], list[Any]]:
    kind, _, form = operator.partition("_")
    flags = form.split("_")

    def sru(context: Any) -> list[Any]:
        x, *constants = [context.get_input(i) for i in range(context.get_input_size())]
        gate = next(name for name in sorted(GATES, key=len, reverse=True) if form.startswith(name))
        attributes = {
            "gate": GATES[gate],
            "groups": int(context.get_attribute("groups")),
            "standard_deviation": "std" in flags,
            "at_least": "ge" in flags,
            "normalised": "normalised" in flags,
            "within": "within" in flags,
            "epsilon": float(context.get_attribute("epsilon")),
            "logit": 0.0 if gate == Gate.STATIC.value else float(context.get_attribute("logit")),
        }
        node = factory.create("SRU", [_turned(x, CHANNELS_LAST), *constants], attributes)
        return [_turned(node.output(i), CHANNELS_FIRST) for i in range(2)]

    def fuse(context: Any) -> list[Any]:
        inputs = [context.get_input(i) for i in range(context.get_input_size())]
        parts = "parts" in flags
        tensors = 3 if parts else 2
        attributes = {
            "pair": "pair" in flags,
            "affine": "affine" in flags,
            "parts": parts,
            "relu": "relu" in flags,
        }
        given = [*(_turned(y, CHANNELS_LAST) for y in inputs[:tensors]), *inputs[tensors:]]
        return [_turned(factory.create("CRUFuse", given, attributes).output(0), CHANNELS_FIRST)]

    return sru if kind == SRU else fuse


def _turned(value: Any, order: tuple[int, ...]) -> Any:
    import openvino.opset13 as opset

    return opset.transpose(value, opset.constant(np.array(order, np.int64))).output(0)


def _name(model: ov.Model, graph: onnx.GraphProto) -> None:
    """The extension's operators get the names of the graph's nodes, by which a block is found."""
    makers = {value: node.name for node in graph.node if is_fused(node) for value in node.output}
    for op in model.get_ops():
        for port in op.outputs():
            known = [makers[name] for name in port.names if name in makers]
            if known and op.get_type_name() == "Transpose":
                op.input_value(0).get_node().set_friendly_name(known[0])
