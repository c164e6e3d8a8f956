"""The first operator at fault is named; a good block has none."""

from __future__ import annotations

import torch

from scconv_deploy.config import Precision
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.parity.bisect import find_operator
from scconv_deploy.parity.structure import check_structure
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tolerances import LIMITS
from tests.parity import faults
from tests.parity.blocks import block_of
from tests.parity.nets import copied, ready


def test_bisection_names_the_node_and_nothing_in_a_good_block() -> None:
    limits = LIMITS["fp32"]
    for fault, words in ((None, None), (faults.missing_bias, "gwc/Conv")):
        model = copied(ready(Precision.FP32).graph)
        if fault is not None:
            fault(model, "flat.0")
        block = block_of("flat.0", model=model)
        program = OnnxProgram(block.piece.model, lift=torch.float64)
        structure = check_structure(block, program, limits, torch.float32)
        assert structure.sound is (fault is None)
        found = find_operator(block, program, structure, GraphStyle(), limits)
        assert found is None if words is None else words in str(found)
