"""Checks of a quantised graph, block by block, and what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from scconv_deploy.artifacts import TracedGraph
from scconv_deploy.config import Precision
from scconv_deploy.parity.outside import OUTSIDE
from scconv_deploy.parity.quantised import check_quantised
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tolerances import QUANT_LIMITS
from scconv_deploy.verdicts import PieceCheck, Verdict
from tests.parity.nets import BLOCKS, ready
from tests.quantise.graphs import FORMS, copied, images, quantised, scconv, store, stored

LIMITS = QUANT_LIMITS["fp32"]


def _checked(graph: TracedGraph, real: bool = True) -> dict[str, PieceCheck]:
    plain = ready(Precision.FP32).graph
    checks, _ = check_quantised(graph, plain, images(4), LIMITS, real)
    return {c.piece: c for c in checks}


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_graph_passes_everywhere(form: str) -> None:
    found = _checked(scconv(form))
    assert set(found) == {f"{p}, quantised" for p in (*BLOCKS, OUTSIDE)}
    for check in found.values():
        assert check.verdict is Verdict.PASS, check.sentence
        assert check.quantised is not None
        assert check.quantised.values > 0
        assert check.quantised.off == 0
    assert sum(c.quantised.values for c in found.values() if c.quantised) == len(
        [n for n in scconv(form).model.graph.node if n.op_type == "QuantizeLinear"]
    )


def test_gates_that_codes_change_are_counted_and_not_judged() -> None:
    found = _checked(scconv("integer"))["hard.0, quantised"].quantised
    assert found is not None
    assert found.gates == 4 * 16 * 8 * 8
    # The stem's result is SRU's input, and a code: near the threshold decisions change.
    assert 0 < (found.input_flips or 0) < 0.05 * found.gates
    assert (found.running_flips or 0) >= 0
    other = _checked(scconv("symmetric"))["hard.0, quantised"].quantised
    assert other is not None
    assert other.input_flips == 0  # there SRU reads floats


def test_a_fault_fails_its_block_alone() -> None:
    model = copied(scconv("integer").model)
    node = next(n for n in model.graph.node if n.name.startswith("soft.0.cru") and n.op_type == "Conv")
    name = str(node.input[1]).replace("_dequantised", "_scale")
    store(model, name, (stored(model, name) * 2).astype(np.float32))
    found = _checked(replace(scconv("integer"), model=model))
    assert [p for p, c in found.items() if c.verdict is Verdict.FAIL] == ["soft.0, quantised"]
    assert "steps off its weights" in found["soft.0, quantised"].sentence


def test_a_range_that_real_samples_leave_fails_and_noise_may_leave_it() -> None:
    """Without the calibrated ranges (a bundle of strangers) only the samples show it."""
    graph = scconv("symmetric")
    model = copied(graph.model)
    node = next(
        n for n in model.graph.node if n.name.startswith("soft.0.cru") and n.op_type == "QuantizeLinear"
    )
    name = str(node.input[1])
    store(model, name, (stored(model, name) / 8).astype(np.float32))
    clipped = replace(graph, model=model, calibration=None)
    found = _checked(clipped)
    assert [p for p, c in found.items() if c.verdict is Verdict.FAIL] == ["soft.0, quantised"]
    assert "lie beyond its range" in found["soft.0, quantised"].sentence
    assert all(c.verdict is Verdict.PASS for c in _checked(clipped, real=False).values())


def test_q_without_its_dq_is_a_fault_and_no_traceback() -> None:
    model = copied(scconv("integer").model)
    node = next(
        n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.name.startswith("soft.0")
    )
    node.input[1] = onnx.helper.make_node("Identity", ["image"], ["x"]).output[0]
    found = _checked(replace(scconv("integer"), model=model))
    assert [c.verdict for c in found.values()].count(Verdict.FAIL) == 1
    assert "not a constant" in found["soft.0, quantised"].sentence


def test_gates_inside_a_fused_node_are_counted_too_as_far_as_they_are_seen() -> None:
    fused = GraphStyle(fused=True)
    plain = ready(Precision.FP32, style=fused).graph
    assert {n.domain for n in plain.model.graph.node} == {"", "scconv"}
    checks, notes = check_quantised(quantised(plain, FORMS["integer"]), plain, images(4), LIMITS, real=True)
    mine = next(c for c in checks if c.piece == "hard.0, quantised")
    other = _checked(scconv("integer"))["hard.0, quantised"].quantised
    assert mine.verdict is Verdict.PASS, mine.sentence
    assert mine.quantised is not None
    assert other is not None
    # The same codes of the same values: the same decisions change, whoever computes them.
    assert (mine.quantised.gates, mine.quantised.input_flips) == (other.gates, other.input_flips)
    assert mine.quantised.running_flips is None
    assert any("gate decisions" in note for note in notes)
