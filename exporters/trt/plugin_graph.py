"""A graph with fused operators -> the same graph in the operators our TensorRT plugins compute.

Exact rewrites, each only where nothing else reads the values in between:

* ``Relu(CRUFuse_*)`` is ``CRUFuse_*_relu``.
* ``Concat(SRU_*)`` of both halves is ``SRUWhole_*``, and ``CRUFuse_*(Split(y))`` is ``CRUFuseWhole_*(y)``.
* ``CRUFuse_*`` is ``CRUMix_*`` of its pieces and of ``CRUPool``, their sums over 8 parts of the plane: one kernel
  each, and an ahead-of-time plugin is one kernel.

Every operator keeps a function of standard operators beside it, so the file means the same without a plugin. The
parser prefers the plugin only where a node carries ``plugin_namespace`` and ``plugin_version``; it finds functions
by name alone, whatever their domain, so our names must not be anybody else's.
Twins: ``tests/exporters/trt/test_plugin_graph.py``.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import helper

from scconv_deploy.errors import BuildError
from scconv_deploy.kernels.launch import SPLITS, fuse_operators
from scconv_deploy.kernels.ptx import POOL, WHOLE
from scconv_deploy.scconv.fused_ops import DOMAIN, FUSE, SRU, VERSION, declare_domain, function, is_fused

PLUGIN_VERSION = "1"
FOR_PARSER = {"plugin_namespace": DOMAIN, "plugin_version": PLUGIN_VERSION}


def plugin_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a copy of ``model``; it may hold ``SRU_*`` and ``CRUFuse_*`` nodes in its main graph.

    Raises:
        BuildError: another function or operator has the name of one of ours.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    kept = [f for f in made.functions if f.domain != DOMAIN]
    del made.functions[:]
    nodes = _whole_halves(_whole_pieces(_with_relu(list(made.graph.node), made), made), made)
    nodes = [new for node in nodes for new in _split_fuse(node)]
    used = sorted({node.op_type for node in nodes if is_fused(node)})
    opset = next(o.version for o in made.opset_import if not o.domain)
    for other in kept:
        if other.name in used:
            raise BuildError(
                f"the model has a function {other.domain}::{other.name} of its own, and TensorRT would confuse it "
                "with our operator of that name; export with --form standard"
            )
    for node in nodes:
        if is_fused(node):
            node.attribute.extend(helper.make_attribute(k, v) for k, v in FOR_PARSER.items())
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    made.functions.extend([*kept, *(plugin_function(name, opset) for name in used)])
    declare_domain(made)
    return made


def plugin_function(operator: str, opset: int) -> onnx.FunctionProto:
    """What a plugin's operator means in standard ones.

    Raises:
        ValueError: no operator of ours has this name.
    """
    kind, _, form = operator.partition("_")
    if kind == SRU + WHOLE:
        halves = function(f"{SRU}_{form}", opset)
        halves.node.append(helper.make_node("Concat", ["y_a", "y_b"], ["y"], axis=1))
        return _named(halves, operator, list(halves.input), ["y"])
    if kind in (POOL, POOL + WHOLE) and not form:
        return _pool_function(operator, opset, kind == POOL + WHOLE)
    if kind in ("CRUMix", f"CRUMix{WHOLE}"):
        return _mix_function(operator, function(f"{FUSE}_{form}", opset), kind.endswith(WHOLE))
    return function(operator, opset)


def _pool_function(operator: str, opset: int, is_whole: bool) -> onnx.FunctionProto:
    read = ["y"] if is_whole else ["y1", "y2"]
    zeros = SPLITS - 1
    join = "    both = Identity(y)\n" if is_whole else "    both = Concat<axis=1>(y1, y2)\n"
    text = f"""<domain: "{DOMAIN}", opset_import: ["": {opset}]>
{operator} ({", ".join(read)}) => (parts)
{{
{join}    wide = Cast<to=1>(both)
    axes = Constant<value_ints=[2, 3]>()
    total = ReduceSum<keepdims=0>(wide, axes)
    place = Constant<value_ints=[1]>()
    first = Unsqueeze(total, place)
    around = Constant<value_ints=[0, 0, 0, 0, {zeros}, 0]>()
    parts = Pad(first, around)
}}"""
    return onnx.parser.parse_function(text)


def _mix_function(operator: str, fuse: onnx.FunctionProto, is_whole: bool) -> onnx.FunctionProto:
    """The fuse's own function, with its means taken from the sums."""
    body = [n for n in fuse.node if not {"q1", "q2"} & set(n.output)]
    constant, make = helper.make_node, helper.make_node
    before = [make("Split", ["y"], ["y1", "y2"], axis=1, num_outputs=2)] if is_whole else []
    before += [
        constant("Constant", [], ["part_axis"], value_ints=[1]),
        make("ReduceSum", ["parts", "part_axis"], ["sums"], keepdims=0),
        make("Shape", ["y1"], ["extents"], start=2),
        make("ReduceProd", ["extents"], ["count"], keepdims=0),
        make("CastLike", ["count", "sums"], ["values"]),
        make("Div", ["sums", "values"], ["flat_means"]),
        constant("Constant", [], ["image_axes"], value_ints=[2, 3]),
        make("Unsqueeze", ["flat_means", "image_axes"], ["means"]),
        make("Split", ["means"], ["q1", "q2"], axis=1, num_outputs=2),
    ]
    del fuse.node[:]
    fuse.node.extend([*before, *body])
    inputs = ["y"] if is_whole else ["y1", "y2"]
    return _named(fuse, operator, [*inputs, "parts", *list(fuse.input)[2:]], ["out"])


def _named(
    body: onnx.FunctionProto, operator: str, inputs: list[str], outputs: list[str]
) -> onnx.FunctionProto:
    body.name = operator
    del body.input[:], body.output[:]
    body.input.extend(inputs)
    body.output.extend(outputs)
    return body


def _readers(nodes: list[onnx.NodeProto], model: onnx.ModelProto) -> Counter[str]:
    """How often each value is read; a graph's output counts as read once more, and so do values of subgraphs."""
    found = Counter(name for node in nodes for name in node.input)
    found.update(output.name for output in model.graph.output)
    for node in nodes:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                found.update(name for inner in graph.node for name in inner.input)
    return found


def _with_relu(nodes: list[onnx.NodeProto], model: onnx.ModelProto) -> list[onnx.NodeProto]:
    readers = _readers(nodes, model)
    fuses = {n.output[0]: n for n in nodes if is_fused(n) and n.op_type.startswith(f"{FUSE}_")}
    kept = []
    for node in nodes:
        fuse = fuses.get(node.input[0]) if node.op_type == "Relu" and not node.domain else None
        if fuse is None or readers[node.input[0]] > 1 or fuse.op_type.endswith("_relu"):
            kept.append(node)
            continue
        fuse.op_type += "_relu"
        fuse.output[0] = node.output[0]
    return kept


def _whole_pieces(nodes: list[onnx.NodeProto], model: onnx.ModelProto) -> list[onnx.NodeProto]:
    readers = _readers(nodes, model)
    splits = {tuple(n.output): n for n in nodes if n.op_type == "Split" and not n.domain}
    gone = []
    for node in nodes:
        if not (is_fused(node) and node.op_type.startswith(f"{FUSE}_")):
            continue
        split = splits.get((node.input[0], node.input[1]))
        if split is None or any(readers[o] > 1 for o in split.output) or _axis(split, 0) != 1:
            continue
        rest = list(node.input)[2:]
        del node.input[:]
        node.input.extend([split.input[0], *rest])
        node.op_type = node.op_type.replace(FUSE, FUSE + WHOLE, 1)
        gone.append(id(split))
    return [n for n in nodes if id(n) not in gone]


def _whole_halves(nodes: list[onnx.NodeProto], model: onnx.ModelProto) -> list[onnx.NodeProto]:
    readers = _readers(nodes, model)
    units = {tuple(n.output): n for n in nodes if is_fused(n) and n.op_type.startswith(f"{SRU}_")}
    gone = []
    for node in nodes:
        unit = units.get(tuple(node.input)) if node.op_type == "Concat" and not node.domain else None
        if unit is None or any(readers[o] > 1 for o in unit.output) or _axis(node, None) != 1:
            continue
        del unit.output[:]
        unit.output.extend(node.output)
        unit.op_type = unit.op_type.replace(SRU, SRU + WHOLE, 1)
        gone.append(id(node))
    return [n for n in nodes if id(n) not in gone]


def _axis(node: onnx.NodeProto, default: int | None) -> int | None:
    return next((a.i for a in node.attribute if a.name == "axis"), default)


def _split_fuse(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    if not (is_fused(node) and node.op_type.startswith(FUSE)):
        return [node]
    pool, mix = fuse_operators(node.op_type)
    pieces = list(node.input)[: 1 if pool.endswith(WHOLE) else 2]
    parts = f"{node.output[0]}/parts"
    return [
        helper.make_node(pool, pieces, [parts], name=f"{node.name}/pool", domain=DOMAIN),
        helper.make_node(
            mix,
            [*pieces, parts, *list(node.input)[len(pieces) :]],
            list(node.output),
            name=f"{node.name}/mix",
            domain=DOMAIN,
        ),
    ]


assert VERSION == 1, "plugin_version is the operators' version"
