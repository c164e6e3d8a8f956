"""Every form of a fused SRU: flips read off its halves, gates counted; a user's export shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import BuiltArtifact, SourceModel
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Silence
from scconv_deploy.kernels import loader
from scconv_deploy.parity import gates
from scconv_deploy.parity.exact import ExactBlock
from scconv_deploy.parity.fused import decisions
from scconv_deploy.pipeline import run_export
from scconv_deploy.scconv.reference import ReferenceSCConv, constants
from scconv_deploy.scconv.spec import Gate, Gated, Norm, Order, Reconstruct, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower, recognise, simplify, trace, verify
from scconv_deploy.verdicts import Verdict
from tests.e2e import digits
from tests.parity.nets import EXAMPLE, IMAGE
from tests.scconv.axes import base, sru
from tests.scconv.test_deploy import reference_of

FUSED = GraphStyle(fused=True)
WHO = "the fused kernel" if loader.instruction_set() else "the fused operator's body"
FORMS = {
    "soft": base(),
    "std, at the threshold": sru(norm=Norm.GROUP_STD),
    "complement, threshold": sru(gate=Gate.COMPLEMENT_SOFT, threshold=0.4),
    "normalised, threshold": sru(gated=Gated.NORMALISED, threshold=0.6),
    "within": sru(gate=Gate.HARD, reconstruct=Reconstruct.WITHIN),
    "SRU alone": replace(base(), cru=None),
    "CRU first": replace(sru(gate=Gate.HARD), order=Order.CRU_SRU),
}


@pytest.fixture(autouse=True)
def fewer_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "GATES", 2**15)


# Decisions read off the halves


def exact_of(spec: SCConvSpec) -> ExactBlock:
    return ExactBlock(spec, constants(reference_of(spec)), None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", FORMS)
def test_flips_are_read_off_the_halves(name: str, dtype: torch.dtype) -> None:
    """Any flip, of own, partner's or both gates, wherever it moves a value by more than rounding."""
    exact = exact_of(FORMS[name])
    assert exact.sru is not None
    generator = torch.Generator().manual_seed(3)
    given = torch.randn(2, exact.sru.spec.channels, 16, 16, generator=generator).to(dtype)
    s, gated = exact.sru.logits(given.double())
    mask = exact.sru.decide(s)[2]
    assert mask is not None
    # Apart from each other, so that no two flips make the same values, and nothing near 0.
    h = gated.shape[1] // 2
    a, b = gated.abs().chunk(2, dim=1)
    clear = (a > 0.05) & (b > 0.05) & ((a - b).abs() > 0.05) & (s.abs() < 2).chunk(2, dim=1)[0]
    clear &= (s.abs() < 2).chunk(2, dim=1)[1]
    drawn = torch.rand(mask.shape, generator=generator) < 0.1
    flipped = drawn & torch.cat([clear, clear], dim=1)
    assert flipped[:, :h].sum() > 20
    assert (flipped[:, :h] & flipped[:, h:]).any()
    want = mask ^ flipped
    halves = exact.sru.reconstruct(s, gated, want).to(dtype).chunk(2, dim=1)
    got = decisions(exact, given, list(halves))
    # What cannot be told apart is put down to the nearest gates, and is rare.
    assert float(((got != want) & flipped).sum() / flipped.sum()) < 0.02
    assert not ((got != mask) & ~torch.cat([flipped[:, :h] | flipped[:, h:]] * 2, dim=1)).any()


def test_an_error_is_no_flip() -> None:
    exact = exact_of(base())
    assert exact.sru is not None
    given = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(3))
    truth = exact.from_sru(given)
    assert truth.halves is not None
    assert truth.mask is not None
    wrong = (truth.halves * 1.5 + 0.1).float()
    assert (decisions(exact, given, list(wrong.chunk(2, dim=1))) != truth.mask).float().mean() < 1e-2
    not_a_number = torch.full_like(wrong, torch.nan)
    assert torch.equal(decisions(exact, given, list(not_a_number.chunk(2, dim=1))), truth.mask)


# Every form, and a user's export


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, Precision.FP32) for name in FORMS),
        ("CRU first", Precision.FP16),
        ("SRU alone", Precision.FP16),
    ],
)
def test_every_form_is_counted(name: str, precision: Precision, tmp_path: Path) -> None:
    torch.manual_seed(0)
    block: ReferenceSCConv = reference_of(FORMS[name]).float()
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), block).eval()
    config = ExportConfig("onnx", precision=precision, opset=20)
    source = SourceModel(net, "net", "module", None, None, (IMAGE,))
    recognition = recognise.run(net, seed=0)
    lowered = lower.run(source, recognition, FUSED, [EXAMPLE], [IMAGE], precision)
    graph = simplify.run(trace.run(lowered, (IMAGE,), config), config)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.model.SerializeToString())
    built = BuiltArtifact((path,), "onnxruntime", precision.value, {})
    report = verify.run(built, graph, lowered, None, config, Silence())[0]
    assert report.verdict is Verdict.PASS, report.sentence
    piece = next(p for p in report.pieces if p.piece == recognition.blocks[0].path)
    assert piece.gate is not None
    assert piece.gate.arithmetic.startswith(WHO)
    assert piece.gate.flips_outside_band == 0
    assert piece.gate.gates >= 2**15
    assert (piece.gate.error_off_flips or 0) > 0


def test_a_static_gate_has_none_to_count() -> None:
    exact = exact_of(sru(gate=Gate.STATIC, threshold=0.1))
    with pytest.raises(ValueError, match="no gate"):
        decisions(exact, torch.randn(1, 8, 4, 4), [torch.zeros(1, 4, 4, 4)] * 2)


def test_the_digits_export_shows_its_gates(tmp_path: Path) -> None:
    config = digits.config("model.pt", tmp_path / "b", form=Form.PLUGIN, opset=20)
    bundle = run_export(digits.SAMPLES / "model.pt", config, Silence())
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    checks = {p.piece: p.gate for p in bundle.parity.pieces if p.gate}
    assert set(checks) == set(digits.BLOCKS["model.pt"])
    assert all(c.arithmetic.startswith(WHO) and c.gates >= 2**15 for c in checks.values())
    assert sum(c.flips for c in checks.values()) <= 6
    precision_found = bundle.manifest["precision"]
    assert isinstance(precision_found, dict)
    types = precision_found["blocks"]
    assert types == {p: {"convolutions": "fp32", "gate": "fp32", "fuse": "fp32"} for p in checks}
