"""An OpenVINO model with ``SRU``, convolutions and ``CRUFuse`` -> the same model, each SCConv block one operator.

``scconv::Block`` (kernels/openvino/whole_block.h) computes what the seven nodes of a block compute, and keeps what
lies between them in a core's cache: Y1 and Y2 are never tensors. No file holds one: the exported IR keeps the
operators that were verified, and the runner joins them when it compiles, for the shapes at hand.

Exact in real arithmetic; in floating point, two things differ: Y1 and Y2 are not rounded to 16 bits, and their means
are taken by linearity. So every block is compared, when it is joined, with the nodes that it replaces, on random
values: :func:`join_blocks` gives up all of them where one disagrees. What does not fit (another stride, a tensor
that something else reads, a CPU without the kernel) stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as opset
from openvino.utils.node_factory import NodeFactory

LOG = logging.getLogger("scconv_deploy.runtime.openvino")
TOLERANCES = {ov.Type.f32: 1e-5, ov.Type.bf16: 1.5e-2}
"""Type -> largest error of a joined block, as a fraction of the largest value of the nodes it replaces.

bf16 rounds a value by up to 0.4 %; the nodes round Y1, Y2 and the result, the joined block the result alone."""
STRIDE_ONE = {"strides": 1, "dilations": 1}


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution of stride 1 that keeps its image's size: its values, with a bias for every output channel."""

    name: str
    source: Any
    """The value it reads."""
    weight: np.ndarray
    """(out, in, k, k), dense; float32, or the bits of bfloat16 as uint16."""
    bias: np.ndarray
    """(out,), float32."""


@dataclass(frozen=True, slots=True)
class Found:
    """The nodes of a block."""

    sru: Any
    fuse: Any
    convolutions: tuple[Conv, Conv, Conv, Conv]
    """squeeze_up, squeeze_low, Y1, Y2."""
    names: tuple[str, ...]


def join_blocks(
    model: ov.Model, library: Path, compiled: Callable[[ov.Model], ov.CompiledModel]
) -> tuple[str, ...]:
    """Join the blocks of a model of known shapes, in place.

    Args:
        model: what is about to be compiled.
        library: the extension, which the core of ``compiled`` has too.
        compiled: compiles a model as this one will be; for the comparison.

    Returns:
        Names of the joined operators: the names of the nodes they replace, with commas between.
    """
    factory = NodeFactory()
    factory.add_extension(library)
    joined = _all(model, factory)
    reason = _disagreement(model, factory, compiled) if joined else None
    if reason is not None:
        LOG.warning("SCConv blocks are not joined into one operator each: %s", reason)
        return ()
    for found, made in joined:
        found.fuse.output(0).replace(made.output(0))
    return tuple(made.get_friendly_name() for _, made in joined)


def _all(model: ov.Model, factory: NodeFactory) -> list[tuple[Found, Any]]:
    """Each block with the operator that can take its place, which nothing reads yet."""
    pairs = []
    for node in model.get_ordered_ops():
        found = _found(node) if node.get_type_name() == "CRUFuse" else None
        made = None if found is None else _joined(factory, found)
        if found is not None and made is not None:
            pairs.append((found, made))
    return pairs


def _found(fuse: Any) -> Found | None:
    """The block that ends in a fuse; None where it is not all there, or read from elsewhere."""
    tensors = 3 if fuse.get_attributes()["parts"] else 2
    y1, y2, *rest = [_conv(_read_alone(fuse.input_value(i))) for i in range(tensors)]
    if y1 is not None and rest:
        y1 = _sum(y1, rest[0])
    if y1 is None or y2 is None:
        return None
    up, low = _conv(_read_alone(y1.source, 1 + len(rest))), _conv(_read_alone(y2.source))
    if up is None or low is None:
        return None
    ends = _read_alone(up.source), _read_alone(low.source)
    if any(end is None or end.get_node().get_type_name() != "SRU" for end in ends):
        return None
    sru = ends[0].get_node()  # type: ignore[union-attr]
    is_one = [(e.get_node().get_friendly_name(), e.get_index()) for e in ends if e is not None] == [
        (sru.get_friendly_name(), 0),
        (sru.get_friendly_name(), 1),
    ]
    parts = tuple(part.name for part in rest if part is not None)
    names = (sru.get_friendly_name(), up.name, low.name, y1.name, *parts, y2.name, fuse.get_friendly_name())
    return Found(sru, fuse, (up, low, y1, y2), names) if is_one else None


def _read_alone(value: Any, times: int = 1) -> Any | None:
    """The value behind Transposes, where nothing reads it on the way but ``times`` nodes, and shapes."""
    while value is not None:
        readers = [r.get_node() for r in value.get_target_inputs()]
        if sum(r.get_type_name() != "ShapeOf" for r in readers) != times:
            return None
        if value.get_node().get_type_name() != "Transpose":
            return value
        value, times = value.get_node().input_value(0), 1
    return None


def _conv(value: Any | None) -> Conv | None:
    """The convolution that gives a value, perhaps behind the Add of its bias."""
    if value is None:
        return None
    node, bias = value.get_node(), None
    name = node.get_friendly_name()
    if node.get_type_name() == "Add":
        bias = _constant(node.input_value(1))
        inner = _read_alone(node.input_value(0))
        if bias is None or inner is None:
            return None
        node = inner.get_node()
    if node.get_type_name() not in ("Convolution", "GroupConvolution") or not _keeps_size(node):
        return None
    stored = _constant(node.input_value(1))
    if stored is None:
        return None
    weight = _dense(_bits(stored).reshape(list(node.input_value(1).get_shape())))
    count = weight.shape[0]
    values = np.zeros(count, np.float32) if bias is None else _floats(bias)
    return Conv(name, node.input_value(0), weight, values) if values.size == count else None


def _keeps_size(node: Any) -> bool:
    attributes = node.get_attributes()
    shape = node.input_value(1).get_partial_shape()
    if not shape.is_static or len(shape) < 4:
        return False
    height, width = (shape[i].get_length() for i in (-2, -1))
    pads = [*attributes["pads_begin"], *attributes["pads_end"]]
    ones = all(size == wanted for key, wanted in STRIDE_ONE.items() for size in attributes[key])
    is_odd = height == width and height % 2 == 1
    return ones and is_odd and attributes["auto_pad"] == "explicit" and set(pads) == {height // 2}


def _dense(weight: np.ndarray) -> np.ndarray:
    """(g, out / g, in / g, k, k) -> (out, in, k, k), with zeros between the groups."""
    if weight.ndim == 4:
        return weight
    groups, columns, rows, *kernel = weight.shape
    dense = np.zeros((groups, columns, groups, rows, *kernel), weight.dtype)
    for group in range(groups):
        dense[group, :, group] = weight[group]
    return dense.reshape(groups * columns, groups * rows, *kernel)


def _sum(wide: Conv, point: Conv | None) -> Conv | None:
    """GWC and PWC1 as one: PWC1 in the kernel's centre. In float32 alone; 16 bits would round the weights again."""
    if point is None or wide.weight.dtype != np.float32 or _place(wide.source) != _place(point.source):
        return None
    if wide.weight.shape[:2] != point.weight.shape[:2] or point.weight.shape[2] != 1:
        return None
    weight, centre = wide.weight.copy(), wide.weight.shape[2] // 2
    weight[:, :, centre, centre] += point.weight[:, :, 0, 0]
    return Conv(wide.name, wide.source, weight, wide.bias + point.bias)


def _place(value: Any) -> tuple[str, int]:
    return value.get_node().get_friendly_name(), value.get_index()


def _constant(value: Any) -> Any | None:
    node = value.get_node()
    while node.get_type_name() in ("Reshape", "Convert"):
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" and node.get_element_type() in TOLERANCES else None


def _bits(constant: Any) -> np.ndarray:
    """A constant's values: float32, or the bits of bfloat16."""
    values = np.array(constant.data)
    return values if values.dtype == np.float32 else values.view(np.uint16)


def _floats(constant: Any) -> np.ndarray:
    """A constant's values in one row of float32."""
    bits = _bits(constant).reshape(-1)
    return bits if bits.dtype == np.float32 else (bits.astype(np.uint32) << 16).view(np.float32)


def _joined(factory: NodeFactory, found: Found) -> Any | None:
    """The operator; None where there is no kernel for it."""
    x = found.sru.input_value(0)
    constants = [_constant(value) for value in found.sru.input_values()[1:]]
    tensors = 3 if found.fuse.get_attributes()["parts"] else 2
    affine = [_constant(value) for value in found.fuse.input_values()[tensors:]]
    if None in constants or None in affine or x.get_element_type() not in TOLERANCES:
        return None
    floats = (
        [_floats(c) for c in constants] + [c.bias for c in found.convolutions] + [_floats(c) for c in affine]
    )
    bits = np.concatenate([conv.weight.reshape(-1) for conv in found.convolutions])
    weights = ov.Tensor(x.get_element_type(), ov.Shape([bits.size]))
    weights.data.view(bits.dtype)[:] = bits
    up, low, y1, _ = (conv.weight for conv in found.convolutions)
    fuse = found.fuse.get_attributes()
    attributes = {
        **found.sru.get_attributes(),
        **{key: fuse[key] for key in ("pair", "affine", "relu")},
        **dict(
            zip(("up", "low", "out", "kernel"), (*up.shape[:1], *low.shape[:1], *y1.shape[::2]), strict=True)
        ),
    }
    inputs = [x, opset.constant(np.concatenate(floats)).output(0), ov.op.Constant(weights).output(0)]
    try:
        made = factory.create("Block", inputs, attributes)
    except RuntimeError as refusal:
        LOG.debug("%s stays as it is: %s", found.fuse.get_friendly_name(), refusal)
        return None
    made.set_friendly_name(",".join(found.names))
    return made


def _disagreement(
    model: ov.Model, factory: NodeFactory, compiled: Callable[[ov.Model], ov.CompiledModel]
) -> str | None:
    """The first block that differs from its nodes on random values, in words; None where all agree.

    One model computes every block twice, each from an input of its own.
    """
    pairs = _all(model.clone(), factory)
    given, results = [], []
    for found, made in pairs:
        x = found.sru.input_value(0)
        own = opset.parameter(list(x.get_shape()), x.get_element_type())
        found.sru.input(0).replace_source_output(own.output(0))
        made.input(0).replace_source_output(own.output(0))
        given.append(own)
        results += [opset.result(found.fuse.output(0)), opset.result(made.output(0))]
    request = compiled(ov.Model(results, given)).create_infer_request()
    generator = np.random.default_rng(0)
    for index, own in enumerate(given):
        tensor = ov.Tensor(own.get_element_type(), ov.Shape(list(own.get_shape())))
        values = generator.standard_normal(list(own.get_shape()), np.float32)
        is_whole = own.get_element_type() == ov.Type.f32
        bits = values if is_whole else (values.view(np.uint32) >> 16).astype(np.uint16)
        tensor.data.view(bits.dtype)[:] = bits
        request.set_input_tensor(index, tensor)
    request.infer()
    for index, (found, _) in enumerate(pairs):
        nodes, block = (_values(request.get_output_tensor(2 * index + i)) for i in range(2))
        error = float(np.max(np.abs(nodes - block)) / np.max(np.abs(nodes)))
        # A NaN is no agreement.
        if not error <= TOLERANCES[given[index].get_element_type()]:
            return f"{found.fuse.get_friendly_name()} would be off by {error:.1e} of its largest value"
    return None


def _values(tensor: ov.Tensor) -> np.ndarray:
    bits = np.array(tensor.data)
    if bits.dtype == np.float32:
        return bits.astype(np.float64)
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
