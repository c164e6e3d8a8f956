"""The user's gate among other comparisons, however it is written."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scconv_deploy.parity.watching import find_gate, read_gate


class Decoy(nn.Module):
    """A gate behind another comparison of the same size, written the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        noise = x > 1.5
        dropped = x.sigmoid() <= 0.5
        return torch.where(dropped, torch.zeros_like(x), x) + noise


def test_the_users_gate_is_found_among_comparisons() -> None:
    x = torch.randn(4, 8, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = find_gate(Decoy(), x, x > 0)
    assert found is not None
    assert (found.index, found.inverted) == (1, True)
    read = read_gate(Decoy(), x.float(), found, x.shape)
    assert read is not None
    assert float((read == (x > 0)).double().mean()) > 0.999
    assert find_gate(Decoy(), x, x > 0.5) is None
    assert find_gate(nn.ReLU(), x, x > 0) is None
