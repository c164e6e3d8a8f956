"""Fused blocks: gates counted in the real kernel's arithmetic; broken graphs and lying kernels are located."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from scconv_deploy.config import Precision
from scconv_deploy.kernels import loader
from scconv_deploy.parity import fused, gates
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.fused_ops import DOMAIN, attach_functions
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.verdicts import PieceCheck, Verdict
from tests.parity.nets import BLOCKS, Ready, copied, ready, verified

FUSED = GraphStyle(fused=True)
WHO = "the fused kernel" if loader.instruction_set() else "the fused operator's body"
HALVES = (Precision.FP32, Precision.FP16)


@pytest.fixture(autouse=True)
def fewer_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "GATES", 2**15)


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
        assert piece.gate.gates >= 2**15
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
IN_HALF = (1, 6, 7, 9)
"""Of the faults, those tried in fp16 as well; 0.001 of a logit is what rounding the constants moves there."""
TRIED = [(*f, Precision.FP32) for f in FAULTS] + [(*FAULTS[i], Precision.FP16) for i in IN_HALF]


@pytest.mark.parametrize(("fault", "path", "unit", "operator", "precision"), TRIED)
def test_a_broken_graph_is_caught_and_located(
    fault: Callable[[onnx.ModelProto, str], None],
    path: str,
    unit: str,
    operator: str,
    precision: Precision,
    tmp_path: Path,
) -> None:
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
        attribute(node, "logit").f += 1e-3


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
        # The flips are the gates between the two thresholds, on one side of the right one, and no others.
        within = {
            edge: sum(b.gates for b in broken.gate.histogram if b.below <= edge) for edge in (1e-3, 1e-2)
        }
        assert within[1e-3] / 4 < broken.gate.flips < within[1e-2]
        assert broken.gate.farthest_flip < 0.01
