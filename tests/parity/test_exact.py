"""The truth of a block is the reference module, with every step kept."""

from __future__ import annotations

import pytest
import torch

from scconv_deploy.parity.exact import ExactBlock
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.scconv.reference.units import constants
from tests.parity.blocks import block_of


@pytest.mark.parametrize("family", ["paper", "F1", "F3"])
def test_the_truth_is_the_reference_module_and_forgets_nothing(family: str) -> None:
    torch.manual_seed(0)
    module = scconv(family, 16).double().eval()
    exact = ExactBlock(module.spec, constants(module), None)
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64)
    steps = exact.run(x)
    with torch.no_grad():
        torch.testing.assert_close(steps.out, module(x), rtol=1e-9, atol=1e-12)
        # Its own steps compose: the CRU behind the halves is the output, and other halves are not.
        assert steps.halves is not None
        torch.testing.assert_close(exact.run_cru(steps.halves), steps.out)
        assert not torch.allclose(exact.run_cru(-steps.halves), steps.out)
    assert steps.margin is not None
    assert float(steps.margin.min()) >= 0
    assert steps.first(1).out.shape[0] == 1


def test_rounding_of_weights_grows_with_the_type() -> None:
    block = block_of("hard.0")
    steps = block.exact.run(block.given)
    full, fp16, bf16 = (
        float(block.exact.rounding(steps, t, everywhere=False).max())
        for t in (torch.float32, torch.float16, torch.bfloat16)
    )
    assert full == 0
    assert 0 < fp16 < bf16 < 0.1 * float(steps.out.abs().max())
