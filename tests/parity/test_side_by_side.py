"""SCConv blocks that read one tensor side by side share their norm in the graph, and are still judged one by one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.config import Precision
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.verdicts import Verdict
from tests.parity.nets import Ready, copied, made_ready, verified

BRANCHES = ("branches.0", "branches.1", "branches.2")


class Pyramid(nn.Module):
    """As in an ASPP: three hard-gated blocks over one tensor, put together by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.branches = nn.ModuleList(scconv("paper", 16) for _ in BRANCHES)
        self.project = nn.Conv2d(48, 8, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 8, H, W)."""
        x = self.stem(image)
        made: Tensor = self.project(torch.cat([branch(x) for branch in self.branches], dim=1))
        return made


@cache
def pyramid(precision: Precision) -> Ready:
    torch.manual_seed(0)
    net = Pyramid()
    for parameter in net.parameters():
        if parameter.ndim != 4:
            nn.init.normal_(parameter, 0.5, 0.3)
    return made_ready(net.eval(), precision)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_blocks_side_by_side_are_cut_apart(precision: Precision, tmp_path: Path) -> None:
    made = pyramid(precision)
    norms = [n for n in made.graph.model.graph.node if n.op_type == "InstanceNormalization"]
    assert len(norms) == 1, "simplification shares the norm: that is the case tested here"
    report = verified(made, made.graph.model, tmp_path)
    assert report.verdict is Verdict.PASS
    checked = {p.piece for p in report.pieces}
    assert checked >= set(BRANCHES)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_wrong_branch_is_named(branch: str, tmp_path: Path) -> None:
    model = copied(pyramid(Precision.FP32).graph)
    gate = next(n for n in model.graph.node if n.op_type == "Greater" and belongs_to(n.name, branch))
    gate.op_type = "Less"
    report = verified(pyramid(Precision.FP32), model, tmp_path)
    assert report.verdict is Verdict.FAIL
    assert [p.piece for p in report.pieces if p.verdict is Verdict.FAIL] == [branch]
