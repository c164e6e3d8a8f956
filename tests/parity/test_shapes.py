"""Networks of other shapes than the usual: the CRU before the SRU, fixed batches, program sources, no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from scconv_deploy.config import Precision
from scconv_deploy.parity import gates
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.scconv.reference.families import family_spec
from scconv_deploy.scconv.reference.units import ReferenceSCConv
from scconv_deploy.scconv.spec import Order
from scconv_deploy.verdicts import Verdict
from tests.parity import faults
from tests.parity.nets import IMAGE, copied, made_ready, ready, verified

Fault = Callable[[onnx.ModelProto, str], None]


@pytest.fixture(autouse=True)
def fewer_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "GATES", 2**16)


def shaken(net: nn.Module) -> nn.Module:
    """Biases, betas and statistics as training leaves them; eval mode."""
    for parameter in net.parameters():
        if parameter.ndim != 4:
            nn.init.normal_(parameter, 0.5, 0.3)
    with torch.no_grad():
        for _ in range(10):
            net(torch.randn(16, 3, 8, 8))
    return net.eval()


def turned(family: str) -> nn.Module:
    """A stem and a block whose CRU runs first."""
    torch.manual_seed(0)
    block = ReferenceSCConv(replace(family_spec(family, 16), order=Order.CRU_SRU))
    return shaken(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), block, nn.BatchNorm2d(16)))


@pytest.mark.parametrize(("family", "precision"), [("paper", Precision.FP32), ("F3", Precision.FP16)])
def test_the_cru_before_the_sru(family: str, precision: Precision, tmp_path: Path) -> None:
    made = made_ready(turned(family), precision)
    report = verified(made, made.graph.model, tmp_path)
    assert report.verdict is Verdict.PASS, report.sentence
    block = next(p for p in report.pieces if p.piece == "1")
    assert [u.unit for u in block.units] == ["CRU", "SRU"]
    assert block.gate is not None
    assert block.gate.gates >= 2**16
    for fault, unit in ((faults.strictness, "SRU"), (faults.transposed_squeeze, "CRU")):
        model = copied(made.graph)
        fault(model, "1")
        broken = verified(made, model, tmp_path)
        assert broken.verdict is Verdict.FAIL
        assert f"first at 1.{unit}:" in broken.sentence


@pytest.mark.parametrize(("batch", "precision"), [(1, Precision.FP16), (2, Precision.FP32)])
def test_a_fixed_batch(batch: int, precision: Precision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = shaken(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), scconv("F3", 16)))
    shape = (batch, 3, 8, 8)
    made = made_ready(
        net, precision, replace(IMAGE, shape=shape, minimum=shape, optimum=shape, maximum=shape)
    )
    report = verified(made, made.graph.model, tmp_path)
    assert report.verdict is Verdict.PASS, report.sentence
    assert {c.shape[0] for c in report.comparisons} == {batch}
    model = copied(made.graph)
    faults.wrong_eps(model, "1")
    assert "first at 1.SRU" in verified(made, model, tmp_path).sentence


class Program:
    """Stands for a source that is a program: another function than the module that stands for it."""

    def __init__(
        self, made: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]], factor: float
    ) -> None:
        self.made = made
        self.factor = factor

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {k: v * np.float32(self.factor) for k, v in self.made(inputs).items()}


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_the_source_program_itself_is_the_reference_end_to_end(factor: float, tmp_path: Path) -> None:
    made = ready(Precision.FP32)

    def by_module(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            out = made.lowered.reference(torch.from_numpy(inputs["image"]))
        return {made.graph.outputs[0].name: out.numpy()}

    program = Program(by_module, factor)
    lowered = replace(made.lowered, original=program)  # type: ignore[arg-type]
    report = verified(replace(made, lowered=lowered), made.graph.model, tmp_path)
    # The pieces agree in both; only the whole program says that the module is not it.
    assert all(p.verdict is Verdict.PASS for p in report.pieces)
    missed = [c for c in report.comparisons if c.verdict is Verdict.FAIL]
    assert bool(missed) is (factor != 1.0)


def test_untrained_hard_gates_in_half_are_never_failed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = [scconv("paper", 16) for _ in range(4)]
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made = made_ready(net.eval(), Precision.FP16)
    report = verified(made, made.graph.model, tmp_path)
    assert report.verdict is not Verdict.FAIL, report.sentence
    model = copied(made.graph)
    faults.missing_bias(model, "3")
    assert "first at 3.CRU" in verified(made, model, tmp_path).sentence
