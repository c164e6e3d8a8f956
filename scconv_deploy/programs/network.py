"""A checked ONNX model and its regions -> a module tree: one :class:`OnnxProgram`, with one in it per region.

A region's nodes are cut out into a program of their own and replaced by one ``scconv_deploy::Call`` node, whose
path is where that program hangs. So an SCConv block in a flat graph becomes a child module, which is recognised,
certified and replaced like a user's own. Constants and shape arithmetic that a piece reads go along with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from scconv_deploy.errors import InputError
from scconv_deploy.interpret.names import CONTAINER
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.programs.dataflow import Flow, Shape
from scconv_deploy.programs.masks import one_mask
from scconv_deploy.programs.regions import Region, node_path
from scconv_deploy.programs.shapes import reroot
from scconv_deploy.recognition.structure import FIXED_SHAPE

DOMAIN = "scconv_deploy"
CALL = "Call"


def network(model: onnx.ModelProto, regions: Sequence[Region]) -> tuple[OnnxProgram, tuple[str, ...]]:
    """The module tree, and the paths of regions that could not be cut out (they stay part of the whole).

    Args:
        model: with shapes of inner values where they are known.
        regions: of this very model.

    Raises:
        InputError: an operator cannot be run in PyTorch; all of them are named.
    """
    flow = Flow(model)
    parts: dict[str, nn.Module] = {}
    cut: list[Region] = []
    left: list[str] = []
    for region in regions:
        made = _part(flow, region)
        if made is None:
            left.append(region.path)
        else:
            parts[region.path] = made
            cut.append(region)
    whole = piece(flow, range(len(flow.nodes)), cut, None)
    if whole is None:  # shape arithmetic outside reads a value inside a region
        return OnnxProgram(model), tuple(r.path for r in regions)
    return OnnxProgram(whole, parts=parts), tuple(left)


def _part(flow: Flow, region: Region) -> OnnxProgram | None:
    """The region as a program; its own parts, where they can be cut out, are programs inside it."""
    inner: dict[str, nn.Module] = {}
    cut: list[Region] = []
    for part in region.parts:
        made = _part(flow, part)
        if made is not None:
            inner[part.path.removeprefix(region.path + ".")] = made
            cut.append(part)
    found = piece(flow, region.nodes, cut, region)
    if found is None and cut:
        inner, found = {}, piece(flow, region.nodes, (), region)
    if found is None:
        return None
    try:
        program = OnnxProgram(found, parts=inner)
        found = one_mask(found, constants_of(program))
        program = OnnxProgram(found, parts=inner)
    except InputError:
        return None  # the whole names its operators
    _keep_vectors_only(program, found)
    shape = flow.shape_of.get(region.entry)
    if shape is not None:
        setattr(program, FIXED_SHAPE, tuple(d if isinstance(d, int) else None for d in shape))
    return program


def piece(
    flow: Flow, indices: Iterable[int], parts: Sequence[Region], region: Region | None
) -> onnx.ModelProto | None:
    """The nodes as a model of their own, with parts replaced by calls; None where it needs more than its input.

    Args:
        flow: the whole graph.
        indices: its nodes; only data nodes count, the others come along as they are needed.
        parts: regions among them to be called.
        region: whose input and output the model has; None for those of the whole graph.
    """
    calls = {region_part.nodes[-1]: region_part for region_part in parts}
    inside = {i for part in parts for i in part.nodes}
    nodes: list[onnx.NodeProto] = []
    for index in indices:
        if index in calls:
            nodes.append(_call(calls[index], region))
        elif index not in inside and flow.data[index]:
            nodes.append(_named_within(flow.nodes[index], index, region))
    graph = flow.model.graph
    given = [region.entry] if region else [v.name for v in graph.input]
    wanted = [region.leaving] if region else [v.name for v in graph.output]
    visible = {*given, *(v for node in nodes for v in node.output)}
    supporting = _supporting(flow, nodes, wanted, visible, region.entry if region else None)
    if supporting is None:
        return None
    ordered = [*supporting[0], *_in_order(nodes, supporting[1], visible)]
    stored = {t.name: t for t in graph.initializer}
    read = {v for node in ordered for v in node.input} | set(wanted)
    made = helper.make_graph(
        ordered,
        "piece",
        [_value(flow, v) for v in given if v not in stored],
        [_value(flow, v) for v in wanted],
        [t for name, t in stored.items() if name in read],
        value_info=[
            _value(flow, v) for v in sorted(visible - set(given) - set(wanted)) if v in flow.shape_of
        ],
    )
    opsets = [*(o for o in flow.model.opset_import if o.domain != DOMAIN), helper.make_opsetid(DOMAIN, 1)]
    found = helper.make_model(made, opset_imports=opsets)
    found.ir_version = flow.model.ir_version
    return found


def _call(part: Region, region: Region | None) -> onnx.NodeProto:
    path = part.path.removeprefix(region.path + ".") if region else part.path
    return helper.make_node(CALL, [part.entry], [part.leaving], name=f"{path}/Call", domain=DOMAIN, path=path)


def _named_within(node: onnx.NodeProto, index: int, region: Region | None) -> onnx.NodeProto:
    """A region's nodes are named by their paths inside it: ``block.cru.gwc`` is ``gwc`` in ``block.cru``."""
    path = node_path(node)
    if region is None or not path:
        return node
    named = onnx.NodeProto()
    named.CopyFrom(node)
    del named.metadata_props[:]
    inside = path.removeprefix(region.module_path).removeprefix(".") if region.module_path else path
    named.name = f"{inside}/{node.op_type}_{index}" if inside else f"{node.op_type}_{index}"
    return named


def _supporting(
    flow: Flow, nodes: Sequence[onnx.NodeProto], wanted: Sequence[str], visible: set[str], entry: str | None
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]] | None:
    """Constant nodes (first in order) and shape nodes that ``nodes`` need; None where a shape is out of reach."""
    needed: set[int] = set()
    waiting = [v for node in nodes for v in node.input] + list(wanted)
    while waiting:
        value = waiting.pop()
        index = flow.maker.get(value)
        if value in visible or index is None or index in needed or flow.data[index]:
            continue
        needed.add(index)
        # A shape that is known through the piece's own input needs nothing from further up.
        if not _is_foreign_shape(flow, index, visible):
            waiting.extend(flow.nodes[index].input)
    constants, shapes = [], []
    for index in sorted(needed):
        node = flow.nodes[index]
        if all(v in flow.constant for v in node.output if v):
            constants.append(node)
        elif _is_foreign_shape(flow, index, visible):
            made = reroot(node, flow.shape_of, entry) if entry else None
            if made is None:
                return None
            shapes += made
        else:
            shapes.append(node)
    return constants, shapes


def _is_foreign_shape(flow: Flow, index: int, visible: set[str]) -> bool:
    node = flow.nodes[index]
    source = node.input[0] if node.op_type in ("Shape", "Size") and node.input else None
    return (
        source is not None
        and source not in visible
        and source not in flow.constant
        and source not in flow.shapes_only
    )


def _in_order(
    nodes: Sequence[onnx.NodeProto], shapes: Sequence[onnx.NodeProto], visible: set[str]
) -> Iterator[onnx.NodeProto]:
    """Data nodes in their order, each preceded by the shape nodes that it needs."""
    maker = {v: node for node in shapes for v in node.output}
    done: set[int] = set()

    def needs(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        for value in node.input:
            source = maker.get(value)
            if source is not None and id(source) not in done and value not in visible:
                done.add(id(source))
                yield from needs(source)
                yield source

    for node in nodes:
        yield from needs(node)
        yield node


def _value(flow: Flow, name: str) -> onnx.ValueInfoProto:
    graph = flow.model.graph
    for value in [*graph.input, *graph.output]:
        if value.name == name:
            return value
    kind = next((v.type.tensor_type.elem_type for v in graph.value_info if v.name == name), TensorProto.FLOAT)
    shape: Shape | None = flow.shape_of.get(name)
    return helper.make_tensor_value_info(name, kind or TensorProto.FLOAT, shape)


def _keep_vectors_only(program: OnnxProgram, piece_model: onnx.ModelProto) -> None:
    """Of a region's loose constants only per-channel vectors stay parameters; the others become buffers.

    Parameters are what recognition looks at as weights: a ones tensor of the image's shape, the unit affine of
    an instance norm and the axes of a reduction are none.
    """
    holder = program._modules.get(CONTAINER)
    if holder is None:
        return
    idle = _unit_affines(program, piece_model)
    for name, tensor in list(holder.named_parameters(recurse=False)):
        if tensor.numel() > 1 and tensor.numel() == max(tensor.shape) and name not in idle:
            continue
        del holder._parameters[name]
        holder.register_buffer(name, tensor.detach())


def constants_of(program: OnnxProgram) -> dict[str, np.ndarray]:
    """The floating constants that a program's steps read, by value name; what it computed once is among them."""
    holder = program._modules.get(CONTAINER)
    if holder is None:
        return {}
    tensors = {name: getattr(holder, key) for name, key in program._keys.items()}
    return {
        name: t.detach().numpy() for name, t in tensors.items() if t.dtype in (torch.float32, torch.float64)
    }


def _unit_affines(program: OnnxProgram, piece_model: onnx.ModelProto) -> set[str]:
    """Keys of scales of ones and shifts of zeros that a normalisation operator must be given."""
    found = set()
    for node in piece_model.graph.node:
        if node.op_type not in ("InstanceNormalization", "GroupNormalization", "LayerNormalization"):
            continue
        for name, idle in zip(node.input[1:3], (1.0, 0.0), strict=False):
            key = program._keys.get(name)
            holder = program._modules[CONTAINER]
            if key is not None and bool((getattr(holder, key) == idle).all()):
                found.add(key)
    return found
