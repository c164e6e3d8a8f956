"""The same block in ONNX Runtime and in torch: the mask is read, and a forced one decides."""

from __future__ import annotations

import pytest

from scconv_deploy.config import Precision
from scconv_deploy.parity.arithmetic import Arithmetic
from tests.parity.blocks import block_of, typed


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_forced_gate_decides(precision: Precision) -> None:
    block = block_of("hard.0", precision)
    arithmetic = Arithmetic(typed(precision), block)
    assert ("float16" in arithmetic.name) is (precision is Precision.FP16)
    gate, steps = block.units.gate, block.exact.run(block.given)
    assert gate is not None
    assert steps.mask is not None
    x = arithmetic.rounded(block.given, block.piece.inputs[0])
    run, mask = arithmetic.forced(gate), arithmetic.mask(gate)
    assert run is not None
    assert mask is not None
    (decided,) = mask({block.units.sru_input or "": x})
    assert float((decided == steps.mask).double().mean()) > 0.999
    scale = float(steps.out.abs().max())
    (good,) = run({block.piece.inputs[0]: x, gate.mask: steps.mask})
    (wrong,) = run({block.piece.inputs[0]: x, gate.mask: ~steps.mask})
    assert float((good.double() - steps.out).abs().max()) < 0.01 * scale
    assert float((wrong.double() - steps.out).abs().max()) > 0.05 * scale
