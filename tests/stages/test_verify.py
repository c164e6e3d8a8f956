"""A good artifact passes; broken twins fail; what cannot be opened or compared is an error in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from scconv_deploy.artifacts import BuiltArtifact, TracedGraph
from scconv_deploy.config import Budgets
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import VerificationError
from scconv_deploy.parity.cases import Case
from scconv_deploy.parity.reference import Reference
from scconv_deploy.stages import verify
from scconv_deploy.verdicts import GoldenSamples, ParityReport, Verdict
from tests.stages.small import CONFIG, EXAMPLE, IMAGE, built_in, ready

Fault = Callable[[onnx.ModelProto], None]


def changed(fault: Fault) -> TracedGraph:
    """The small network's graph with a fault."""
    model = onnx.ModelProto()
    model.CopyFrom(ready().graph.model)
    fault(model)
    return replace(ready().graph, model=model)


def behind_the_output(model: onnx.ModelProto, kind: str, *more: str) -> None:
    """One more operator between the graph's last node and its output."""
    (output,) = model.graph.output
    last = next(n for n in model.graph.node if output.name in n.output)
    last.output[0] = "before_fault"
    model.graph.node.append(
        onnx.helper.make_node(kind, ["before_fault", *more], [output.name], name=f"{kind}_fault")
    )


def doubled(model: onnx.ModelProto) -> None:
    behind_the_output(model, "Add", "before_fault")


def not_a_number(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(np.nan), "nan"))
    behind_the_output(model, "Add", "nan")


def other_comparison(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type in ("Greater", "GreaterOrEqual"))
    node.op_type = "Less"


def harmless(model: onnx.ModelProto) -> None:
    behind_the_output(model, "Identity")


def run(built: BuiltArtifact, graph: TracedGraph) -> ParityReport:
    return verify.run(built, graph, ready().lowered, None, CONFIG, Silence())[0]


def golden() -> GoldenSamples:
    reference = Reference(ready().lowered.reference, [IMAGE], [ready().graph.outputs[0].name])
    inputs = {"image": EXAMPLE.numpy()}
    return GoldenSamples(inputs, reference.run(inputs))


def test_the_good_artifact_passes_piece_by_piece(tmp_path: Path) -> None:
    built = built_in(tmp_path, ready().graph)
    report, samples = verify.run(built, ready().graph, ready().lowered, None, CONFIG, Silence())
    assert report.verdict is Verdict.PASS
    assert report.artifact_executed
    assert report.subject.startswith("model.onnx in ONNX Runtime")
    block = next(p for p in report.pieces if p.piece == "2")
    assert block.passed_samples == block.samples > verify.PIECE_BATCH  # and the edge input
    assert verify.run_golden(built, ready().graph, samples, CONFIG).verdict is Verdict.PASS


@pytest.mark.parametrize("fault", [doubled, not_a_number, other_comparison])
def test_broken_twins_fail(fault: Fault, tmp_path: Path) -> None:
    graph = changed(fault)
    assert run(built_in(tmp_path, graph), graph).verdict is Verdict.FAIL


def test_the_file_is_judged_and_not_the_graph_it_came_from(tmp_path: Path) -> None:
    built = built_in(tmp_path, changed(doubled))
    assert run(built, ready().graph).verdict is Verdict.FAIL
    built = built_in(tmp_path, changed(harmless))
    assert run(built, ready().graph).verdict is Verdict.PASS


def test_where_it_cannot_run_the_graph_runs_and_the_report_says_so(tmp_path: Path) -> None:
    built = built_in(tmp_path, ready().graph, not_executed="not executed: no GPU here")
    built.primary.write_bytes(b"an engine")
    report = run(built, ready().graph)
    assert report.verdict is Verdict.PASS
    assert not report.artifact_executed
    assert report.subject.startswith("the ONNX graph model.onnx was built from")
    assert "not executed: no GPU here" in report.notes
    assert run(built, changed(doubled)).verdict is Verdict.FAIL


def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    built = built_in(tmp_path, ready().graph)
    built.primary.write_bytes(b"\xff" * 64)
    with pytest.raises(VerificationError, match=r"model\.onnx cannot be read back"):
        run(built, ready().graph)
    with pytest.raises(VerificationError, match=r"model\.onnx was built but cannot be opened"):
        verify.run_golden(built, ready().graph, golden(), CONFIG)


def test_golden_samples_must_agree_and_be_complete(tmp_path: Path) -> None:
    built, samples = built_in(tmp_path, ready().graph), golden()
    assert verify.run_golden(built, ready().graph, samples, CONFIG).verdict is Verdict.PASS
    off = {k: v + 0.1 for k, v in samples.outputs.items()}
    report = verify.run_golden(built, ready().graph, replace(samples, outputs=off), CONFIG)
    assert report.verdict is Verdict.FAIL
    with pytest.raises(VerificationError, match="name different outputs"):
        verify.run_golden(built, ready().graph, replace(samples, outputs={}), CONFIG)


def test_golden_samples_are_judged_by_the_users_budget_and_it_is_named(tmp_path: Path) -> None:
    built, samples = built_in(tmp_path, ready().graph), golden()
    off = replace(samples, outputs={k: v + 1e-7 for k, v in samples.outputs.items()})
    output = ready().graph.outputs[0].name
    for atol, verdict in ((1e-12, Verdict.FAIL), (1.0, Verdict.PASS)):
        report = verify.run_golden(
            built, ready().graph, off, replace(CONFIG, budgets=Budgets(atol={output: atol}))
        )
        assert report.verdict is verdict
        (budget,) = report.budgets
        assert budget.name.startswith(f"end to end, {output}")
        assert (budget.limit, budget.kept) == (atol, verdict is Verdict.PASS)
        assert (f"the budget '{budget.name}' is missed" in report.sentence) is (verdict is Verdict.FAIL)
    assert verify.run_golden(built, ready().graph, samples, CONFIG).budgets[0].kept


def test_golden_batches_have_independent_samples() -> None:
    fixed = Reference(ready().lowered.reference, [replace(IMAGE, shape=(1, 3, 6, 6))], ["y"])
    case = Case("one", {"image": EXAMPLE.numpy()[:1]})
    batches = verify._piece_batches(fixed, [case], 4)
    assert [len(b["image"]) for b in batches] == [1, 1, 1, 1]
    assert len({b["image"].tobytes() for b in batches}) == 4
    assert all(sorted(b["image"].ravel()) == sorted(case.inputs["image"].ravel()) for b in batches)
