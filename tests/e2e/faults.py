"""Faults that a wrong export could have, as edits of an ONNX graph whose nodes carry module paths."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from scconv_deploy.graph.names import belongs_to


def _nodes(model: onnx.ModelProto, path: str, kind: str | None = None) -> list[onnx.NodeProto]:
    found = [n for n in model.graph.node if belongs_to(n.name, path) and kind in (None, n.op_type)]
    assert found, f"no {kind or 'node'} in {path}: this fault would break nothing"
    return found


def _insert_behind(model: onnx.ModelProto, node: onnx.NodeProto, extra: onnx.NodeProto) -> None:
    """``extra`` reads the value ``node`` made before, and makes the value ``node`` was known by."""
    name = node.output[0]
    node.output[0] = f"{name}_before_the_fault"
    extra.input[0] = node.output[0]
    extra.output.append(name)
    position = list(model.graph.node).index(node) + 1
    model.graph.node.insert(position, extra)


def _edit(model: onnx.ModelProto, name: str, index: tuple[int, ...], value: float) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[index] = value
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))


def _last_of(model: onnx.ModelProto, path: str) -> onnx.NodeProto:
    return _nodes(model, path)[-1]


def doubled(model: onnx.ModelProto, path: str) -> None:
    """Twice the block's output."""
    last = _last_of(model, path)
    twice = onnx.numpy_helper.from_array(np.float32(2.0), "two")
    model.graph.initializer.append(twice)
    _insert_behind(model, last, onnx.helper.make_node("Mul", ["", "two"], [], name=f"{path}/Mul_twice"))


def swapped_halves(model: onnx.ModelProto, path: str) -> None:
    """The SRU's halves reach each other's squeeze."""
    up = _nodes(model, f"{path}.cru.squeeze_up", "Conv")[0]
    low = _nodes(model, f"{path}.cru.squeeze_low", "Conv")[0]
    up.input[0], low.input[0] = low.input[0], up.input[0]


def dropped_gwc_bias(model: onnx.ModelProto, path: str) -> None:
    """GWC without its bias; where PWC1 stands in its centre tap, the one convolution without it."""
    dense = any(belongs_to(n.name, f"{path}.cru.y1") for n in model.graph.node)
    conv = _nodes(model, f"{path}.cru.{'y1' if dense else 'gwc'}", "Conv")[0]
    assert len(conv.input) == 3
    del conv.input[2]


def other_comparison(model: onnx.ModelProto, path: str) -> None:
    """``>`` for ``>=`` and the reverse."""
    other = {"Greater": "GreaterOrEqual", "GreaterOrEqual": "Greater"}
    gates = [n for n in _nodes(model, path) if n.op_type in other]
    assert gates
    for node in gates:
        node.op_type = other[node.op_type]


def nan_inside(model: onnx.ModelProto, path: str) -> None:
    """One NaN among the weights of PWC1."""
    _edit(model, _nodes(model, f"{path}.cru.pwc1", "Conv")[0].input[1], (0, 0, 0, 0), np.nan)


def _head(model: onnx.ModelProto) -> onnx.NodeProto:
    (output,) = (v.name for v in model.graph.output)
    return next(n for n in model.graph.node if output in n.output)


def changed_head(model: onnx.ModelProto) -> None:
    """One weight of the classifier is another number."""
    _edit(model, _head(model).input[1], (0, 0), 3.0)


def nan_head(model: onnx.ModelProto) -> None:
    """One NaN in the classifier."""
    _edit(model, _head(model).input[1], (0, 0), np.nan)


def doubled_output(model: onnx.ModelProto) -> None:
    """Twice the model's output."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2.0), "two"))
    _insert_behind(model, _head(model), onnx.helper.make_node("Mul", ["", "two"], [], name="Mul_twice"))


def wider_output(model: onnx.ModelProto) -> None:
    """The output holds every class twice."""
    node = onnx.helper.make_node("Tile", ["", "once_twice"], [], name="Tile_wide")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2]), "once_twice"))
    _insert_behind(model, _head(model), node)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value *= 2


def changed_stem(model: onnx.ModelProto) -> None:
    """One weight of the first convolution is another number."""
    stem = next(n for n in model.graph.node if n.op_type == "Conv")
    assert model.graph.input[0].name in stem.input
    _edit(model, stem.input[1], (0, 0, 1, 1), 3.0)


BLOCK_FAULTS = (doubled, swapped_halves, dropped_gwc_bias, nan_inside)
OUTSIDE_FAULTS = (changed_head, nan_head, doubled_output, wider_output, changed_stem)


def names_of(faults: Iterable[object]) -> list[str]:
    """Test ids."""
    return [str(getattr(f, "__name__", f)) for f in faults]
