"""Is it the traced graph but for codes? Every fault is found at its node; sound graphs have none."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from scconv_deploy.config import Precision
from scconv_deploy.parity.quantised_structure import structure_faults
from scconv_deploy.tolerances import QUANT_LIMITS
from tests.parity.nets import ready
from tests.quantise.graphs import FORMS, copied, scconv, store, stored

LIMITS = QUANT_LIMITS["fp32"]
Change = Callable[[onnx.ModelProto], None]


def _node(model: onnx.ModelProto, start: str, kind: str, count: int = 0) -> onnx.NodeProto:
    return [n for n in model.graph.node if n.name.startswith(start) and n.op_type == kind][count]


def _weight(model: onnx.ModelProto, start: str) -> str:
    """Name under which the first convolution's weight there is stored, without its suffix."""
    return str(_node(model, start, "Conv").input[1]).removesuffix("_dequantised")


def _scaled(name: str, factor: float) -> Change:
    def change(model: onnx.ModelProto) -> None:
        store(model, name, (stored(model, name) * factor).astype(np.float32))

    return change


def _wrong_weight_scale(model: onnx.ModelProto) -> None:
    _scaled(f"{_weight(model, 'soft.0.cru')}_scale", 2.0)(model)


def _wasted_range(model: onnx.ModelProto) -> None:
    """Scale and codes agree with the weights; a bit is given away."""
    name = _weight(model, "soft.0.cru")
    _scaled(f"{name}_scale", 2.0)(model)
    weight = stored(ready(Precision.FP32).graph.model, name)
    scale = stored(model, f"{name}_scale").reshape(-1, 1, 1, 1)
    store(model, f"{name}_quantised", np.round(weight / scale).astype(np.int8))


def _wrong_axis(model: onnx.ModelProto) -> None:
    maker = {n.output[0]: n for n in model.graph.node}[_node(model, "soft.0.cru", "Conv").input[1]]
    next(a for a in maker.attribute if a.name == "axis").i = 1


def _zero_point_off(model: onnx.ModelProto) -> None:
    """Q and DQ agree, so the codes still stand for their values: the range has moved."""
    name = str(_node(model, "soft.0.cru", "QuantizeLinear").input[2])
    store(model, name, (stored(model, name) + 9).astype(np.uint8))


def _other_zero_point(model: onnx.ModelProto) -> None:
    node = _node(model, "soft.0.cru", "DequantizeLinear", -1)
    name = str(node.input[2])
    changed = onnx.numpy_helper.from_array((stored(model, name) + 3).astype(np.uint8), "other_zero_point")
    model.graph.initializer.append(changed)
    node.input[2] = "other_zero_point"


def _swapped_halves(model: onnx.ModelProto) -> None:
    one, other = (_node(model, "soft.0.cru.squeeze", "Conv", i) for i in (0, 1))
    one.input[0], other.input[0] = other.input[0], one.input[0]


def _clipped_range(model: onnx.ModelProto) -> None:
    _scaled(str(_node(model, "soft.0.cru", "QuantizeLinear").input[1]), 0.25)(model)


def _dropped_operator(model: onnx.ModelProto) -> None:
    relu = next(n for n in model.graph.node if n.op_type == "Sigmoid" and n.name.startswith("soft.0"))
    relu.op_type = "Tanh"


TWINS: dict[str, tuple[Change, str]] = {
    "weight scale x2": (_wrong_weight_scale, "steps off its weights"),
    "range wasted": (_wasted_range, "uses codes up to"),
    "axis": (_wrong_axis, "scales on axis 1|steps off"),
    "zero point off": (_zero_point_off, "calibrated were"),
    "zero points differ": (_other_zero_point, "different zero points"),
    "swapped halves": (_swapped_halves, "where .* was traced"),
    "clipped range": (_clipped_range, "calibrated were"),
    "another operator": (_dropped_operator, "stands where"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_graph_has_no_fault(form: str) -> None:
    graph = scconv(form)
    assert structure_faults(graph.model, ready(Precision.FP32).graph.model, graph.calibration, LIMITS) == []


@pytest.mark.parametrize("twin", TWINS)
def test_every_broken_twin_is_found_in_its_block(twin: str) -> None:
    graph = scconv("integer")
    change, sentence = TWINS[twin]
    model = copied(graph.model)
    change(model)
    faults = structure_faults(model, ready(Precision.FP32).graph.model, graph.calibration, LIMITS)
    assert faults
    assert faults[0].node.startswith("soft.0")
    assert re.search(sentence, faults[0].sentence)


def test_values_may_be_named_otherwise() -> None:
    """A model that is traced again gets other names for its inner values."""
    graph = scconv("integer")
    plain = copied(ready(Precision.FP32).graph.model)
    inner = {v for n in plain.graph.node for v in n.output} - {v.name for v in plain.graph.output}
    for node in plain.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in inner:
                    names[index] = f"{name}_again"
    assert structure_faults(graph.model, plain, graph.calibration, LIMITS) == []


def test_a_float8_weight_of_another_value_is_found() -> None:
    graph = scconv("float8")
    model = copied(graph.model)
    name = f"{_weight(model, 'flat.0.cru')}_scale"
    _scaled(name, 1.25)(model)
    faults = structure_faults(model, ready(Precision.FP32).graph.model, graph.calibration, LIMITS)
    assert faults
    assert faults[0].node.startswith("flat.0")
