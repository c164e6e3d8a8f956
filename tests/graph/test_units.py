"""A block's gate and the border between its units, by node names; sub-models cut at both."""

from __future__ import annotations

import onnx
import pytest

from scconv_deploy.config import Precision
from scconv_deploy.graph.pieces import block_piece
from scconv_deploy.graph.units import find_units, float_types, forced_piece, mask_piece, sru_piece
from tests.parity import faults
from tests.parity.blocks import typed
from tests.parity.nets import BLOCKS, copied, ready


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("path", BLOCKS)
def test_gate_and_border_are_found(path: str, precision: Precision) -> None:
    units = find_units(typed(precision), path)
    assert units.gate is not None
    assert len(units.halves) == 2
    assert units.gate.kind == ("GreaterOrEqual" if path == "flat.0" else "Greater")
    assert (units.gate.half, units.gate.literal, units.gate.sign) == (False, False, 1)
    piece = block_piece(typed(precision), path)
    assert piece is not None
    assert ("fp16" in float_types(typed(precision), piece)) is (precision is Precision.FP16)
    sru, mask = sru_piece(typed(precision), path), mask_piece(typed(precision), path, units.gate)
    forced = forced_piece(typed(precision), piece, units.gate)
    assert sru is not None
    assert mask is not None
    assert forced is not None
    assert sru.outputs == units.halves
    assert mask.outputs == (units.gate.mask,)
    assert set(forced.inputs) == {*piece.inputs, units.gate.mask}


def test_two_comparisons_are_no_gate_and_a_half_gate_is_seen() -> None:
    model = copied(ready(Precision.FP32).graph)
    faults.half_gate(model, "hard.0")
    gate = find_units(onnx.shape_inference.infer_shapes(model), "hard.0").gate
    assert gate is not None
    assert (gate.half, gate.literal) == (True, True)
    node = faults.nodes(model, "hard.0", "Greater")[0]
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name, twin.output[0] = "hard.0.sru/Greater_twin", "twin"
    faults.insert(model, node, twin)
    assert find_units(onnx.shape_inference.infer_shapes(model), "hard.0").gate is None
