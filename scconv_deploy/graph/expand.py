"""Traced graph with ``scconv_deploy::Block`` nodes -> the same graph in standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from scconv_deploy.graph.names import module_path
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.fused_ops import declare_domain
from scconv_deploy.scconv.operator import DOMAIN, OPERATOR, PLAN, BlockPlan
from scconv_deploy.scconv.writer import Size


def expand_blocks(model: onnx.ModelProto) -> int:
    """Replace every block node in place; returns how many there were."""
    graph = model.graph
    types = {v.name: v.type.tensor_type for v in [*graph.value_info, *graph.input, *graph.output]}
    nodes: list[onnx.NodeProto] = []
    tensors: dict[str, onnx.TensorProto] = {}
    count = 0
    for node in graph.node:
        if node.domain != DOMAIN or node.op_type != OPERATOR:
            nodes.append(node)
            continue
        made, constants = _expand(node, types[node.input[0]], count)
        nodes += made
        tensors.update({t.name: t for t in constants})
        count += 1
    if count:
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(tensors.values())
        kept = [o for o in model.opset_import if o.domain != DOMAIN]
        del model.opset_import[:]
        model.opset_import.extend(kept)
        declare_domain(model)
        _drop_unused_values(graph)
    return count


def _expand(
    node: onnx.NodeProto, kind: onnx.TypeProto.Tensor, index: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    plan = next(a.s.decode() for a in node.attribute if a.name == PLAN)
    shape: Sequence[Size] = [
        d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim
    ]
    made, constants = emit_block(
        BlockPlan.from_text(plan),
        node.input[0],
        node.output[0],
        list(node.input[1:]),
        module_path(node),
        shape,
        kind.elem_type,
        index,
    )
    return made, constants


def _drop_unused_values(graph: onnx.GraphProto) -> None:
    made = {v for node in graph.node for v in node.output}
    kept = [v for v in graph.value_info if v.name in made]
    del graph.value_info[:]
    graph.value_info.extend(kept)
