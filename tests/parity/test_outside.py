"""The layers outside the blocks agree by themselves; a changed stem is named."""

from __future__ import annotations

import onnx
import pytest

from scconv_deploy.config import Precision
from scconv_deploy.parity.outside import check_outside
from scconv_deploy.parity.reference import Reference
from scconv_deploy.tolerances import LIMITS
from scconv_deploy.verdicts import Verdict
from tests.parity import faults
from tests.parity.blocks import block_of
from tests.parity.nets import BLOCKS, EXAMPLE, IMAGE, copied, ready


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_outside_agrees_and_a_changed_stem_does_not(precision: Precision) -> None:
    made = ready(precision)
    names = [o.name for o in made.graph.outputs]
    norms = dict(made.lowered.folded)
    record = Reference(made.lowered.reference, [IMAGE], names).trace(
        {"image": EXAMPLE.numpy()}, [*BLOCKS, *norms.values()]
    )
    for broken in (False, True):
        model = copied(made.graph)
        if broken:
            stem = next(n for n in model.graph.node if n.op_type == "Conv" and "stem" in n.name)
            weight = faults.array_of(model, stem.input[1])
            weight[0, 0, 1, 1] += 1
            stem.input[1] = faults.new_constant(model, "changed", weight)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True)
        blocks = [block_of(p, precision, model) for p in BLOCKS]
        checks = check_outside(graph, blocks, record, {"image": EXAMPLE.numpy()}, LIMITS[precision.value], 1)
        assert checks is not None
        failed = [c.piece for c in checks if c.verdict is Verdict.FAIL]
        assert failed == (["the layers before hard.0"] if broken else [])
