"""verify: the built artifact against the user's own PyTorch module -> :class:`ParityReport`.

Two questions. Does every piece of the graph compute what the user's modules compute (teacher-forced)? Does
the whole artifact, run as it will be served, give the user's outputs, over several batches and sizes? Where
this machine cannot execute the artifact, the graph it was built from is run instead and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from scconv_deploy.artifacts import BuiltArtifact, LoweredModel, TracedGraph
from scconv_deploy.contracts import Progress, Runner
from scconv_deploy.errors import InputError, VerificationError
from scconv_deploy.metrics import judge
from scconv_deploy.parity.cases import Case, make_cases
from scconv_deploy.parity.piecewise import PieceChecks, check_pieces
from scconv_deploy.parity.reference import Reference
from scconv_deploy.parity.verdict import decide
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.onnx import OnnxRunner, version
from scconv_deploy.threads import threads_for
from scconv_deploy.tolerances import END_TO_END_FP32
from scconv_deploy.verdicts import Comparison, GoldenSamples, ParityReport, Tolerance, Verdict

TRUTH_ELEMENTS = 2**19
"""Input elements run in float64 (three images of 3x224x224): it costs several times fp32. A case that misses
its limit always gets its truth, since the verdict asks for it."""

GOLDEN_BATCH = 4
"""Samples that travel with the bundle."""

PIECE_BATCH = 4
"""Activations each block is judged on."""


def run(
    built: BuiltArtifact,
    graph: TracedGraph,
    lowered: LoweredModel,
    samples: Mapping[str, np.ndarray] | None,
    seed: int,
    progress: Progress,
) -> tuple[ParityReport, GoldenSamples]:
    """Compare; returns the report and the golden samples of the first case.

    Raises:
        VerificationError: the artifact cannot be opened or run where PyTorch runs. A difference is no
            exception here: it is the report's verdict.
    """
    names = [o.name for o in graph.outputs]
    reference = Reference(lowered.reference, graph.inputs, names)
    notes = list(graph.notes)
    cases = make_cases(graph.inputs, samples, seed)
    with threads_for(array.size for case in cases for array in case.inputs.values()):
        truth = _truth(lowered, graph, names, notes)
        golden = golden_samples(reference, cases)
        progress.update("comparing piece by piece")
        pieces = _pieces(_executed(built, graph), lowered, reference, truth, cases)
        with _runner(built, graph, torch.get_num_threads()) as runner:
            compared = _compare_all(runner, reference, truth, cases, progress)
    report = decide(
        subject=_subject(built),
        tolerance=END_TO_END_FP32,
        comparisons=compared[0],
        against_float64=compared[1],
        reference_against_float64=compared[2],
        pieces=pieces,
        has_other_gates=bool(lowered.recognition.left_as_is),
        artifact_executed=built.not_executed is None,
        notes=[*notes, *pieces.notes, *([built.not_executed] if built.not_executed else [])],
    )
    return report, golden


def run_golden(built: BuiltArtifact, graph: TracedGraph, golden: GoldenSamples) -> ParityReport:
    """Compare with the outputs the user's module gave at export time; needs no PyTorch model.

    Raises:
        VerificationError: the artifact cannot be opened, or names other outputs than the samples.
    """
    with _runner(built, graph) as runner:
        got = runner.run(golden.inputs)
    # Also refuses golden samples whose outputs were taken out: comparing nothing would pass.
    _same_names(golden.outputs, got)
    found = [
        judge("golden samples", name, want, got[name], END_TO_END_FP32)
        for name, want in golden.outputs.items()
    ]
    return decide(
        subject=_subject(built),
        tolerance=END_TO_END_FP32,
        comparisons=found,
        against_float64=(),
        reference_against_float64=(),
        pieces=PieceChecks(),
        has_other_gates=False,
        artifact_executed=built.not_executed is None,
        notes=[built.not_executed] if built.not_executed else [],
    )


def _executed(built: BuiltArtifact, graph: TracedGraph) -> TracedGraph:
    """The graph to cut: what the file really holds where the artifact is ONNX itself, else what it was
    built from. A proof of a graph that was not written proves nothing about the file."""
    if built.runtime != "onnxruntime" or built.not_executed is not None:
        return graph
    try:
        return replace(graph, model=onnx.load(built.primary))
    except (OSError, DecodeError) as error:
        raise VerificationError(f"{built.primary.name} cannot be read back: {error}") from error


def golden_samples(reference: Reference, cases: Sequence[Case]) -> GoldenSamples:
    """A few inputs with the user's own outputs: one batch, of the size the graph takes."""
    inputs = _piece_batches(reference, cases, GOLDEN_BATCH)[0]
    return GoldenSamples(inputs, reference.run(inputs))


def compare(
    runner: Runner, reference: Reference, case: Case, tolerance: Tolerance
) -> tuple[list[Comparison], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run one case on both sides; every output is judged.

    Raises:
        VerificationError: the artifact refuses the case, or names other outputs.
    """
    want = reference.run(case.inputs)
    try:
        got = runner.run(case.inputs)
    except InputError as error:
        raise VerificationError(
            f"the artifact does not run on {case.name}, which the PyTorch model takes: {error}"
        ) from error
    _same_names(want, got)
    return [judge(case.name, name, want[name], got[name], tolerance) for name in want], want, got


def _same_names(want: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> None:
    missing = set(want) ^ set(got)
    if missing:
        raise VerificationError(
            f"the artifact and the model name different outputs: {', '.join(sorted(missing))}"
        )


def _compare_all(
    runner: Runner, reference: Reference, truth: Reference | None, cases: Sequence[Case], progress: Progress
) -> tuple[list[Comparison], list[Comparison], list[Comparison]]:
    direct: list[Comparison] = []
    wide: list[Comparison] = []
    itself: list[Comparison] = []
    spent = 0
    for index, case in enumerate(cases):
        progress.update(f"comparing {case.name}", index / len(cases))
        found, want, got = compare(runner, reference, case, END_TO_END_FP32)
        direct += found
        size = sum(a.size for a in case.inputs.values())
        missed = any(c.verdict is Verdict.FAIL for c in found)
        if truth is None or (spent + size > TRUTH_ELEMENTS and not missed):
            continue
        spent += size
        exact = truth.run(case.inputs)
        for name in want:
            wide.append(judge(case.name, name, exact[name], got[name], END_TO_END_FP32))
            itself.append(judge(case.name, name, exact[name], want[name], END_TO_END_FP32))
    return direct, wide, itself


def _pieces(
    graph: TracedGraph,
    lowered: LoweredModel,
    reference: Reference,
    truth: Reference | None,
    cases: Sequence[Case],
) -> PieceChecks:
    if not graph.block_paths:
        return PieceChecks()
    return check_pieces(graph, lowered, reference, truth, _piece_batches(reference, cases, PIECE_BATCH))


def _piece_batches(reference: Reference, cases: Sequence[Case], count: int) -> list[dict[str, np.ndarray]]:
    """A few independent samples of one shape: a gate near its threshold excuses single samples only."""
    if _free(reference):
        sizes = [min(len(a) for a in c.inputs.values()) for c in cases]
        best = next((i for i, size in enumerate(sizes) if size >= count), int(np.argmax(sizes)))
        return [{k: v[:count] for k, v in cases[best].inputs.items()}]
    first = cases[0].inputs
    batches = [dict(c.inputs) for c in cases if all(c.inputs[k].shape == first[k].shape for k in first)]
    size = min(len(a) for a in first.values())
    generator = np.random.default_rng(0)
    while len(batches) * size < count:
        # Same values in another order: real statistics, other gates.
        batches.append({k: generator.permuted(v, axis=-1) for k, v in batches[-1].items()})
    return batches[: max(1, -(-count // size))]


def _free(reference: Reference) -> bool:
    return all(s.shape and isinstance(s.shape[0], str) and s.minimum[0] == 1 for s in reference.inputs)


def _truth(
    lowered: LoweredModel, graph: TracedGraph, names: Sequence[str], notes: list[str]
) -> Reference | None:
    """The module in float64, or None with a note where it cannot run so (constants typed float32)."""
    wide = Reference(lowered.reference, graph.inputs, names, wide=True)
    case = make_cases(graph.inputs, None, 0)[0]
    try:
        wide.run(case.inputs)
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        notes.append(f"no float64 truth: the model does not run in float64 ({str(error).splitlines()[0]})")
        return None
    return wide


def _runner(
    built: BuiltArtifact, graph: TracedGraph, threads: int | None = None
) -> AbstractContextManager[Runner]:
    try:
        if built.not_executed is not None:
            return OnnxRunner(graph.model.SerializeToString(), threads=threads)
        return open_runner(built.runtime, built.primary, threads)
    except InputError as error:
        raise VerificationError(f"{built.primary.name} was built but cannot be opened: {error}") from error


def _subject(built: BuiltArtifact) -> str:
    if built.not_executed is not None:
        return f"the ONNX graph {built.primary.name} was built from, in ONNX Runtime {version()} on CPU"
    if built.runtime == "onnxruntime":
        return f"{built.primary.name} in ONNX Runtime {version()} on CPU"
    return f"{built.primary.name} in {built.runtime}"
