"""Fused blocks: gates counted in the real kernel's arithmetic; broken graphs and lying kernels are located."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import BuiltArtifact, SourceModel
from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.contracts import Silence
from scconv_deploy.kernels import loader
from scconv_deploy.parity import fused, gates
from scconv_deploy.parity.exact import ExactBlock
from scconv_deploy.parity.fused import decisions
from scconv_deploy.pipeline import run_export
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.fused_ops import DOMAIN, attach_functions
from scconv_deploy.scconv.reference import ReferenceSCConv, constants
from scconv_deploy.scconv.spec import Gate, Gated, Norm, Order, Reconstruct, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower, recognise, simplify, trace, verify
from scconv_deploy.verdicts import PieceCheck, Verdict
from tests.e2e import digits
from tests.parity.nets import BLOCKS, EXAMPLE, IMAGE, Ready, copied, ready, verified
from tests.scconv.axes import base, sru
from tests.scconv.test_deploy import reference_of

FUSED = GraphStyle(fused=True)
WHO = "the fused kernel" if loader.instruction_set() else "the fused operator's body"
HALVES = (Precision.FP32, Precision.FP16)
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
    monkeypatch.setattr(gates, "GATES", 2**16)


def sru_node(model: onnx.ModelProto, path: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name.startswith(f"{path}.sru/SRU_"))


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(a for a in node.attribute if a.name == name)


@pytest.mark.parametrize("precision", HALVES)
def test_gates_of_the_good_export_are_counted(precision: Precision, tmp_path: Path) -> None:
    made = ready(precision, style=FUSED)
    report = verified(made, made.graph.model, tmp_path)
    assert report.verdict is Verdict.PASS, report.sentence
    assert not any("gate was not found" in note for note in report.notes)
    for piece in (p for p in report.pieces if p.piece in BLOCKS):
        assert [u.unit for u in piece.units] == ["SRU", "CRU"]
        assert piece.gate is not None
        assert piece.gate.arithmetic.startswith(WHO)
        assert ("torch float16" in piece.gate.arithmetic) == (precision is Precision.FP16)
        assert piece.gate.gates >= 2**16
        assert sum(b.gates for b in piece.gate.histogram) == piece.gate.gates
        assert piece.gate.flips <= 2
        assert piece.gate.flips_outside_band == 0
        assert piece.gate.pytorch_flips is not None
        assert 0 < (piece.gate.error_off_flips or 0) < (piece.gate.limit_off_flips or 0)
        assert 0 < (piece.gate.error_forced or 0) < piece.gate.limit


def test_without_the_library_the_body_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    made = ready(Precision.FP32, style=FUSED)
    report = verified(made, made.graph.model, tmp_path)
    assert report.verdict is Verdict.PASS, report.sentence
    checks = [p.gate for p in report.pieces if p.gate]
    assert len(checks) == 3
    assert all(c.arithmetic.startswith("the fused operator's body in ONNX Runtime") for c in checks)


# Broken graphs


def swapped_halves(model: onnx.ModelProto, path: str) -> None:
    node = sru_node(model, path)
    node.output[0], node.output[1] = node.output[1], node.output[0]


def wrong_eps(model: onnx.ModelProto, path: str) -> None:
    attribute(sru_node(model, path), "epsilon").f = 1e-3


def wrong_groups(model: onnx.ModelProto, path: str) -> None:
    attribute(sru_node(model, path), "groups").i = 2


def wrong_threshold(model: onnx.ModelProto, path: str) -> None:
    attribute(sru_node(model, path), "logit").f += 1e-3


def wrong_comparison(model: onnx.ModelProto, path: str) -> None:
    node = sru_node(model, path)
    node.op_type = node.op_type.removesuffix("_ge") if node.op_type.endswith("_ge") else f"{node.op_type}_ge"


def wrong_gate(model: onnx.ModelProto, path: str) -> None:
    node = sru_node(model, path)
    node.op_type = {"SRU_hard": "SRU_soft", "SRU_soft": "SRU_hard"}[node.op_type]


def wrong_scale(model: onnx.ModelProto, path: str) -> None:
    node = sru_node(model, path)
    node.input[1], node.input[2] = node.input[2], node.input[1]


def wrong_fuse(model: onnx.ModelProto, path: str) -> None:
    node = next(n for n in model.graph.node if n.name.startswith(f"{path}.cru/CRUFuse_"))
    forth, back = ("pair", "joint") if "pair" in node.op_type else ("joint", "pair")
    node.op_type = node.op_type.replace(forth, back)


FAULTS = [
    (swapped_halves, "soft.0", "CRU", "cru.squeeze_"),
    (wrong_eps, "hard.0", "SRU", "SRU_hard_"),
    (wrong_eps, "soft.0", "SRU", "SRU_soft_"),
    (wrong_groups, "soft.0", "SRU", "SRU_soft_"),
    (wrong_threshold, "hard.0", "SRU", ""),
    (wrong_comparison, "hard.0", "SRU", "GreaterOrEqual"),
    (wrong_comparison, "flat.0", "SRU", "Greater"),
    (wrong_gate, "soft.0", "SRU", "SRU_soft_"),
    (wrong_scale, "flat.0", "SRU", "SRU_hard_std_ge_"),
    (wrong_fuse, "hard.0", "CRU", "CRUFuse_pair"),
]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(("fault", "path", "unit", "operator"), FAULTS)
def test_a_broken_graph_is_caught_and_located(
    fault: Callable[[onnx.ModelProto, str], None],
    path: str,
    unit: str,
    operator: str,
    precision: Precision,
    tmp_path: Path,
) -> None:
    if fault is wrong_threshold and precision is Precision.FP16:
        pytest.skip("0.001 of a logit is what rounding the constants to fp16 moves")
    made = ready(precision, style=FUSED)
    model = copied(made.graph)
    fault(model, path)
    attach_functions(model)
    broken, others = judged(made, model, path, tmp_path)
    assert [u.unit for u in broken.units if u.verdict is Verdict.FAIL] == [unit]
    assert f"{path}.{unit}" in broken.sentence
    assert operator in (broken.operator or "")
    assert all(p.verdict is Verdict.PASS for p in others)


def judged(
    made: Ready, model: onnx.ModelProto, path: str, folder: Path
) -> tuple[PieceCheck, list[PieceCheck]]:
    report = verified(made, model, folder, bisect=True)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergent_block == path
    pieces = {p.piece: p for p in report.pieces if p.piece in BLOCKS}
    assert pieces[path].verdict is Verdict.FAIL
    return pieces[path], [p for name, p in pieces.items() if name != path]


# Kernels that do something else than the graph says


class Lying:
    """A runner of the SRU's node whose kernel misreads it."""

    kernels = "avx2"

    def __init__(self, model: bytes, threads: int) -> None:
        self.proto = onnx.load_from_string(model)
        node = self.proto.graph.node[0]
        assert node.domain == DOMAIN
        if "soft.0" in node.name:
            self.misread(node)
        self.inner = OnnxRunner(self.proto.SerializeToString(), threads=threads)

    def misread(self, node: onnx.NodeProto) -> None:
        raise NotImplementedError

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made: dict[str, np.ndarray] = self.inner.run(values)
        return made


class AnotherThreshold(Lying):
    def misread(self, node: onnx.NodeProto) -> None:
        attribute(node, "logit").f += 0.01


class AnotherEps(Lying):
    def misread(self, node: onnx.NodeProto) -> None:
        attribute(node, "epsilon").f = 0.5


class Swapped(Lying):
    def misread(self, node: onnx.NodeProto) -> None:
        node.output[0], node.output[1] = node.output[1], node.output[0]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        (AnotherThreshold, "farther from the threshold than rounding explains"),
        (AnotherEps, "off by more than rounding explains where no gate flipped"),
        (Swapped, "off by more than rounding explains where no gate flipped"),
    ],
)
def test_a_wrong_kernel_is_caught_and_located(
    kernel: type[Lying], sentence: str, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "OnnxRunner", kernel)
    made = ready(precision, style=FUSED)
    broken, others = judged(made, made.graph.model, "soft.0", tmp_path)
    assert [u.unit for u in broken.units if u.verdict is Verdict.FAIL] == ["SRU"]
    assert sentence in broken.sentence
    assert broken.sentence.startswith("soft.0.SRU: ")
    assert (broken.operator or "").startswith("soft.0.sru/SRU_soft_")
    assert all(p.verdict is Verdict.PASS for p in others)
    if kernel is AnotherThreshold:
        assert broken.gate is not None
        # A logit of 0.01 of about 3 at most: the flips are those between the two thresholds, and no others.
        below = sum(b.gates for b in broken.gate.histogram if b.below <= 1e-3)
        assert below / 4 < broken.gate.flips < 10 * below
        assert broken.gate.farthest_flip < 0.02


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


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("name", FORMS)
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
    piece = next(p for p in report.pieces if p.piece == "1")
    assert piece.gate is not None
    assert piece.gate.arithmetic.startswith(WHO)
    assert piece.gate.flips_outside_band == 0
    assert piece.gate.gates >= 2**16
    assert 0 < (piece.gate.error_off_flips or 0)


def test_a_static_gate_has_none_to_count(tmp_path: Path) -> None:
    FORMS_STATIC = sru(gate=Gate.STATIC, threshold=0.1)
    exact = exact_of(FORMS_STATIC)
    with pytest.raises(ValueError, match="no gate"):
        decisions(exact, torch.randn(1, 8, 4, 4), [torch.zeros(1, 4, 4, 4)] * 2)


@pytest.mark.parametrize("precision", HALVES)
def test_the_digits_export_shows_its_gates(precision: Precision, tmp_path: Path) -> None:
    config = digits.config("model.pt", tmp_path / "b", form=Form.PLUGIN, precision=precision, opset=20)
    bundle = run_export(digits.SAMPLES / "model.pt", config, Silence())
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    checks = {p.piece: p.gate for p in bundle.parity.pieces if p.gate}
    assert set(checks) == set(digits.BLOCKS["model.pt"])
    assert all(c.arithmetic.startswith(WHO) and c.gates >= 2**16 for c in checks.values())
    assert sum(c.flips for c in checks.values()) <= 6
    types = bundle.manifest["precision_per_block"]
    half = precision.value
    assert types == {p: {"convolutions": half, "gate": "fp32", "fuse": "fp32"} for p in checks}
