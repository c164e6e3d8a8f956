"""The operators ``scconv::SRU_*`` and ``scconv::CRUFuse_*``: their names, and what they mean in standard ones.

Each stands in the model with a model-local function (an ONNX feature): where our library is loaded, a kernel
computes the node; everywhere else the runtime puts the function's body in its place. A body cannot branch on
attributes, so every form is an operator of its own:

* ``SRU_{hard,soft,complement_soft,static}[_std][_ge][_normalised][_within]``
  ``(x, scale, shift [, weight] [, mask]) -> (y_a, y_b)``, attributes ``groups``, ``epsilon`` and ``logit``
  (but for a static gate);
* ``CRUFuse_{joint,pair}[_affine][_add][_relu] (y1, y2 [, scale, shift] [, added]) -> out``.

Activations are float32 or float16, constants float32 with one value per channel. The bodies compute in float32
and round their results once, as the kernels do. The names are built in ``kernels/src/forms.h`` too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import onnx

from scconv_deploy.scconv.spec import Comparison, CRUSpec, Fuse, Gate, Gated, Norm, Reconstruct, SRUSpec

DOMAIN = "scconv"
VERSION = 1
SRU = "SRU"
FUSE = "CRUFuse"

_COLUMN = """
    column = Constant<value_ints=[-1, 1, 1]>()
"""
_FLAT = """
    wide = Cast<to=1>(x)
    image = Shape(x)
    one = Constant<value_float=1.0>()
    first = Constant<value_ints=[0]>()
    rest_of = Constant<value_ints=[-1]>()
    single = Constant<value_ints=[1]>()
    number = Constant<value_int: int = @groups>()
    groups_ = Reshape(number, single)
    cut = Concat<axis=0>(first, groups_, rest_of)
    flat = Reshape(wide, cut)
"""
_NORMS = {
    Norm.GROUP_NORM: """
    zero = Constant<value_float=0.0>()
    ones = Expand(one, groups_)
    zeros = Expand(zero, groups_)
    xhat = InstanceNormalization<epsilon: float = @epsilon>(flat, ones, zeros)
""",
    Norm.GROUP_STD: """
    eps = Constant<value_float: float = @epsilon>()
    last = Constant<value_ints=[2]>()
    behind = Constant<value_ints=[3]>()
    mean = ReduceMean<keepdims=1>(flat, last)
    centred = Sub(flat, mean)
    squares = Mul(centred, centred)
    total = ReduceSum<keepdims=1>(squares, last)
    extents = Shape(flat)
    extent = Slice(extents, last, behind)
    count = Cast<to=1>(extent)
    freedom = Sub(count, one)
    variance = Div(total, freedom)
    deviation = Sqrt(variance)
    sigma = Add(deviation, eps)
    xhat = Div(centred, sigma)
""",
}
_AFFINE = """
    back = Reshape(xhat, image)
    scale_ = Reshape(scale, column)
    shift_ = Reshape(shift, column)
    scaled = Mul(back, scale_)
    affine = Add(scaled, shift_)
"""
_GATED = {
    Gated.INPUT: """
    s = Identity(affine)
    gated = Identity(wide)
""",
    Gated.NORMALISED: """
    weight_ = Reshape(weight, column)
    s = Mul(affine, weight_)
    gated = Identity(affine)
""",
}
_MASK = """
    bound = Constant<value_float: float = @logit>()
    above = {greater}(s, bound)
    m = Cast<to=1>(above)
"""
_BRANCHES = {
    Gate.HARD: """
    kept = Mul(m, gated)
    rest = Sub(gated, kept)
""",
    Gate.SOFT: """
    r = Sigmoid(s)
    w1 = Max(r, m)
    w2 = Sub(w1, m)
    kept = Mul(w1, gated)
    rest = Mul(w2, gated)
""",
    Gate.COMPLEMENT_SOFT: """
    r = Sigmoid(s)
    w1 = Max(r, m)
    w2 = Mul(r, m)
    kept = Mul(w1, gated)
    rest = Mul(w2, gated)
""",
    Gate.STATIC: """
    r = Sigmoid(s)
    p = Mul(r, gated)
    mask_ = Reshape(mask, column)
    kept = Mul(mask_, p)
    rest = Sub(p, kept)
""",
}
_HALVES = """
    k_a, k_b = Split<axis=1, num_outputs=2>(kept)
    r_a, r_b = Split<axis=1, num_outputs=2>(rest)
    wide_a = Add(k_a, {partner_a})
    wide_b = Add({partner_b}, r_{other})
    y_a = CastLike(wide_a, x)
    y_b = CastLike(wide_b, x)
"""
_POOLED = """
    axes = Constant<value_ints=[2, 3]>()
    wide1 = Cast<to=1>(y1)
    wide2 = Cast<to=1>(y2)
    q1 = ReduceMean<keepdims=1>(wide1, axes)
    q2 = ReduceMean<keepdims=1>(wide2, axes)
"""
_WEIGHTS = {
    Fuse.JOINT: """
    q = Concat<axis=1>(q1, q2)
    p = Softmax<axis=1>(q)
    p1, p2 = Split<axis=1, num_outputs=2>(p)
""",
    Fuse.PAIR: """
    forth = Sub(q1, q2)
    back = Sub(q2, q1)
    p1 = Sigmoid(forth)
    p2 = Sigmoid(back)
""",
}
_MIXED = {
    False: """
    term1 = Mul(wide1, p1)
    term2 = Mul(wide2, p2)
    mixed = Add(term1, term2)
""",
    True: """
    scale_ = Reshape(scale, column)
    shift_ = Reshape(shift, column)
    a1 = Mul(p1, scale_)
    a2 = Mul(p2, scale_)
    term1 = Mul(wide1, a1)
    term2 = Mul(wide2, a2)
    sum = Add(term1, term2)
    mixed = Add(sum, shift_)
""",
}


def sru_operator(spec: SRUSpec) -> str:
    """Name of the operator for a specification; a threshold outside (0, 1) has none (see ``emit_fused``)."""
    parts = [f"{SRU}_{spec.gate.value}"]
    parts += ["std"] if spec.norm is Norm.GROUP_STD else []
    # A static mask was compared when it was stored.
    parts += ["ge"] if spec.comparison is Comparison.GE and spec.gate is not Gate.STATIC else []
    parts += ["normalised"] if spec.gated is Gated.NORMALISED else []
    parts += ["within"] if spec.reconstruct is Reconstruct.WITHIN else []
    return "_".join(parts)


def fuse_operator(spec: CRUSpec, is_affine: bool, has_relu: bool = False) -> str:
    """Name of the operator for a specification, with or without a BatchNorm folded in."""
    return f"{FUSE}_{spec.fuse.value}" + "_affine" * is_affine + "_relu" * has_relu


def function(operator: str, opset: int) -> onnx.FunctionProto:
    """What ``operator`` means in the standard operators of ``opset`` (18 or later).

    Raises:
        ValueError: no operator of ours has this name.
    """
    kind, _, form = operator.partition("_")
    if kind == SRU:
        signature, body = _sru(operator, form)
    elif kind == FUSE:
        signature, body = _fuse(operator, form)
    else:
        raise ValueError(f"{DOMAIN} has no operator '{operator}'")
    text = f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n{operator} {signature}\n{{{body}}}'
    return onnx.parser.parse_function(text)


def is_fused(node: onnx.NodeProto) -> bool:
    """Whether the node is one of these operators."""
    return bool(node.domain == DOMAIN)


def attach_functions(model: onnx.ModelProto) -> None:
    """Give the model, in place, the functions of the operators it uses, and types to their results.

    To be done last: torch's optimiser inlines functions, and simplifiers drop them.
    """
    used = sorted({node.op_type for node in model.graph.node if is_fused(node)})
    if not used:
        return
    opset = next(o.version for o in model.opset_import if not o.domain)
    kept = [f for f in model.functions if f.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend([*kept, *(function(name, opset) for name in used)])
    declare_domain(model)
    _write_types(model)


def declare_domain(model: onnx.ModelProto) -> None:
    """Import our domain, in place, where the model has nodes of it and does not import it yet."""
    imported = any(o.domain == DOMAIN for o in model.opset_import)
    if not imported and any(is_fused(node) for node in model.graph.node):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))


def _write_types(model: onnx.ModelProto) -> None:
    """A kernel hides the function from the runtime, and with it what shape inference would find inside."""
    known = {v.name for v in [*model.graph.value_info, *model.graph.output]}
    wanted = {v for node in model.graph.node if is_fused(node) for v in node.output} - known
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.value_info.extend(v for v in inferred.graph.value_info if v.name in wanted)


def _sru(operator: str, form: str) -> tuple[str, str]:
    gate, flags = _parse(operator, form, Gate, _SRU_FLAGS)
    normalised, static = "normalised" in flags, gate is Gate.STATIC
    inputs = ["x", "scale", "shift", *["weight"] * normalised, *["mask"] * static]
    attributes = ["groups", "epsilon", *["logit"] * (not static)]
    mask = "" if static else _MASK.format(greater="GreaterOrEqual" if "ge" in flags else "Greater")
    partners = ("k_b", "r_a", "b") if "within" in flags else ("r_b", "k_b", "a")
    body = [
        _COLUMN,
        _FLAT,
        _NORMS[Norm.GROUP_STD if "std" in flags else Norm.GROUP_NORM],
        _AFFINE,
        _GATED[Gated.NORMALISED if normalised else Gated.INPUT],
        mask,
        _BRANCHES[gate],
        _HALVES.format(partner_a=partners[0], partner_b=partners[1], other=partners[2]),
    ]
    return f"<{', '.join(attributes)}>({', '.join(inputs)}) => (y_a, y_b)", "".join(body)


def _fuse(operator: str, form: str) -> tuple[str, str]:
    fuse, flags = _parse(operator, form, Fuse, _FUSE_FLAGS)
    affine = "affine" in flags
    last = "mixed"
    ends = []
    if "add" in flags:
        ends += ["    wide_added = Cast<to=1>(added)\n", f"    whole = Add({last}, wide_added)\n"]
        last = "whole"
    if "relu" in flags:
        ends += [f"    active = Relu({last})\n"]
        last = "active"
    body = [
        _COLUMN if affine else "",
        _POOLED,
        _WEIGHTS[fuse],
        _MIXED[affine],
        *ends,
        f"    out = CastLike({last}, y1)\n",
    ]
    inputs = ["y1", "y2", *["scale", "shift"] * affine, *["added"] * ("add" in flags)]
    return f"({', '.join(inputs)}) => (out)", "".join(body)


_SRU_FLAGS = ("std", "ge", "normalised", "within")
_FUSE_FLAGS = ("affine", "add", "relu")


Kind = TypeVar("Kind", Gate, Fuse)


def _parse(
    operator: str, form: str, kinds: Iterable[Kind], known: tuple[str, ...]
) -> tuple[Kind, tuple[str, ...]]:
    """``soft_ge`` -> (Gate.SOFT, ("ge",)); the flags must be known and in their order."""
    for kind in kinds:
        if form == kind.value or form.startswith(f"{kind.value}_"):
            flags = tuple(f for f in form[len(kind.value) :].split("_") if f)
            if flags == tuple(f for f in known if f in flags):
                return kind, flags
    raise ValueError(f"{DOMAIN} has no operator '{operator}'")
