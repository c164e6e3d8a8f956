"""verify: the built artifact against the user's own PyTorch module -> :class:`ParityReport`.

Does every piece of the graph compute what the user's modules compute (teacher-forced), and do its gates
decide alike? Does the whole artifact, run as it will be served, give the user's outputs, over several batches
and sizes, and on the task? Where this machine cannot execute the artifact, or only in another arithmetic, the
graph it was built from is run instead and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from scconv_deploy.artifacts import BuiltArtifact, LoweredModel, TracedGraph
from scconv_deploy.config import ExportConfig, Precision
from scconv_deploy.contracts import Metric, Progress
from scconv_deploy.errors import first_line
from scconv_deploy.metrics import gated_value, judge
from scconv_deploy.parity.budgets import (
    END_TO_END,
    FLIP_RATE,
    FLIP_RATE_OF_CODES,
    Settled,
    end_budgets,
    gate_budgets,
    settle,
)
from scconv_deploy.parity.budgets import task_budget as budget_of
from scconv_deploy.parity.cases import Case, make_cases
from scconv_deploy.parity.endtoend import (
    Sides,
    cast_to,
    compare_all,
    must_name_the_same,
    task_of,
    widened,
)
from scconv_deploy.parity.fake_quantised import same_precision, simulates, task_itself
from scconv_deploy.parity.golden import gives_again, with_own_outputs
from scconv_deploy.parity.opened import check_opened
from scconv_deploy.parity.piecewise import PieceChecks, check_pieces
from scconv_deploy.parity.quantised import check_quantised
from scconv_deploy.parity.reference import Reference
from scconv_deploy.parity.subject import (
    also_runs,
    executed_graph,
    on_device,
    open_subject,
    subject_in_words,
)
from scconv_deploy.parity.verdict import Evidence, decide
from scconv_deploy.threads import threads_for
from scconv_deploy.tolerances import QUANT_LIMITS
from scconv_deploy.verdicts import Budget, Comparison, GoldenSamples, ParityReport, TaskMetric

GOLDEN_BATCH = PIECE_BATCH = 4
"""Samples that travel with the bundle, and those whose activations each block is judged on: one run."""

HALVES = (Precision.FP16, Precision.BF16)


def run(
    built: BuiltArtifact,
    graph: TracedGraph,
    lowered: LoweredModel,
    samples: Mapping[str, np.ndarray] | None,
    config: ExportConfig,
    listener: Progress,
    metric: Metric | None = None,
) -> tuple[ParityReport, GoldenSamples]:
    """Compare; returns the report and the golden samples of the first case.

    Args:
        built: the artifact.
        graph: what it was built from.
        lowered: the user's module, its certified blocks and the precision of the graph.
        samples: the user's real samples by input name.
        config: seed, budgets and whether to bisect.
        listener: told what is being compared.
        metric: the user's own measure of quality; top-1 agreement by default.

    Raises:
        VerificationError: the artifact cannot be opened or run where PyTorch runs. A difference is no
            exception here: it is the report's verdict.
    """
    names = [o.name for o in graph.outputs]
    quantised = graph.unquantised is not None
    precision = config.precision if quantised else lowered.precision
    in_torch = simulates(precision, lowered.precision)
    settled = settle(precision, config.budgets, {o.name: o.dtype for o in graph.outputs})
    reference = Reference(lowered.reference, graph.inputs, names)
    cases = cases_of(graph, samples, config.seed)
    if quantised:
        cases = tuple(case for case in cases if case.real) or cases  # noise saturates, which says nothing
    notes = list(graph.notes)
    with threads_for(array.size for case in cases for array in case.inputs.values()):
        truth = _truth(lowered, graph, cases[0], notes)
        listener.update("comparing piece by piece")
        pieces = _pieces(executed_graph(built, graph), lowered, (reference, truth), cases, settled, config)
        same = same_precision(lowered, graph, names, precision)
        threads = torch.get_num_threads()
        with open_subject(built, graph, in_torch, threads) as runner:
            sides = Sides(runner, lowered.original or reference, truth, same)
            simulated = in_torch and not on_device(built)
            found = compare_all(sides, cases, settled, listener, simulated)
            golden = golden_samples(reference, cases)
            few = {name: widened(array) for name, array in golden.inputs.items()}
            made = [runner.run(few)]
            opened = check_opened(runner, built.primary, [c.inputs for c in _few(cases)], threads)
    notes += [opened.note] if opened.note else []
    if lowered.precision in HALVES and not quantised:
        told, served = also_runs(built, graph, few)
        notes += told
        made += [served] if served else []
    task = task_of(found, metric)
    real = frozenset(case.name for case in cases if case.real)
    asked, default = _budgets(settled, pieces, found.direct, found.values, task, real)
    evidence = Evidence(
        comparisons=found.direct,
        against_float64=found.wide,
        reference_against_float64=found.itself,
        same_precision=found.same,
        pieces=pieces,
        asked=asked,
        default=default,
        task=task,
        has_other_gates=bool(lowered.recognition.left_as_is),
        precision=precision.value,
        real=real,
        task_itself=task_itself(found, same, cases) if quantised else None,
        opened=opened.fault,
    )
    report = decide(
        evidence,
        subject=subject_in_words(built, in_torch),
        tolerance=settled.tolerance(names[0]),
        artifact_executed=built.not_executed is None,
        notes=[*notes, *pieces.notes, *([built.not_executed] if built.not_executed else [])],
    )
    return report, with_own_outputs(golden, made, settled)


def run_golden(
    built: BuiltArtifact, graph: TracedGraph, golden: GoldenSamples, config: ExportConfig
) -> ParityReport:
    """Compare with the outputs the user's module gave at export time; needs no PyTorch model.

    Where the artifact itself missed them then and was promoted all the same, it must give its own outputs again.

    Raises:
        VerificationError: the artifact cannot be opened, or names other outputs than the samples.
    """
    in_torch = simulates(config.precision, config.rest or config.precision)
    settled = settle(config.precision, config.budgets, {o.name: o.dtype for o in graph.outputs})
    with open_subject(built, graph, in_torch) as runner:
        got = runner.run({k: widened(v) for k, v in golden.inputs.items()})
    # Also refuses golden samples whose outputs were taken out: comparing nothing would pass.
    must_name_the_same(golden.outputs, got)
    found, values = [], []
    for name, want in golden.outputs.items():
        tolerance = settled.tolerance(name)
        found.append(judge("golden samples", name, want, got[name], tolerance))
        values.append(gated_value(want, got[name], tolerance))
    asked, default = _budgets(settled, PieceChecks(), found, values, None)
    evidence = Evidence(found, (), (), (), PieceChecks(), asked, default, precision=config.precision.value)
    report = decide(
        evidence,
        subject=subject_in_words(built, in_torch),
        tolerance=settled.tolerance(next(iter(golden.outputs))),
        artifact_executed=built.not_executed is None,
        notes=[built.not_executed] if built.not_executed else [],
    )
    return gives_again(report, golden, got, settled)


def golden_samples(reference: Reference, cases: Sequence[Case]) -> GoldenSamples:
    """A few inputs with the user's own outputs: one batch, of the size the graph takes, in its input types
    (bfloat16 as float32: NumPy files have no such type)."""
    inputs = _piece_batches(reference, cases, GOLDEN_BATCH)[0]
    types = {s.name: s.dtype for s in reference.inputs if s.dtype == "float16"}
    return GoldenSamples({k: cast_to(v, types.get(k)) for k, v in inputs.items()}, reference.run(inputs))


def _budgets(
    settled: Settled,
    pieces: PieceChecks,
    comparisons: Sequence[Comparison],
    values: Sequence[float],
    task: TaskMetric | None,
    real: frozenset[str] = frozenset(),
) -> tuple[list[Budget], list[Budget]]:
    """Those the user set, and the precision's own."""
    made = [*gate_budgets(settled, pieces.checks), *end_budgets(settled, comparisons, values, real)]
    if task is not None:
        made.append(budget_of(settled, task))

    def is_asked(budget: Budget) -> bool:
        if budget.name in (FLIP_RATE, FLIP_RATE_OF_CODES):
            return FLIP_RATE in settled.by_user
        outputs = [c.output for c in comparisons if budget.name.startswith(f"{END_TO_END}, {c.output} ")]
        return any(settled.asked(output) for output in outputs)

    return [b for b in made if is_asked(b)], [b for b in made if not is_asked(b)]


def _few(cases: Sequence[Case]) -> list[Case]:
    """The first of either kind, up to four: real samples, and random inputs of other shapes."""
    return [c for c in cases if c.real][:4] + [c for c in cases if not c.real][:4]


def cases_of(graph: TracedGraph, samples: Mapping[str, np.ndarray] | None, seed: int) -> tuple[Case, ...]:
    """Floating inputs as float32 values that the graph's own input type holds: all sides see the same."""
    wide = [replace(s, dtype="float32") if s.dtype in ("float16", "bfloat16") else s for s in graph.inputs]
    given = None if samples is None else {k: widened(v) for k, v in samples.items()}
    types = {s.name: s.dtype for s in graph.inputs}
    return tuple(
        replace(case, inputs={k: widened(cast_to(v, types[k])) for k, v in case.inputs.items()})
        for case in make_cases(wide, given, seed)
    )


def _pieces(
    graph: TracedGraph,
    lowered: LoweredModel,
    references: tuple[Reference, Reference | None],
    cases: Sequence[Case],
    settled: Settled,
    config: ExportConfig,
) -> PieceChecks:
    """Blocks in the type that they are traced in, and the Q/DQ of a quantised graph apart from them."""
    batches = _piece_batches(references[0], cases, PIECE_BATCH)
    plain = graph.unquantised
    if plain is None:
        if not graph.block_paths:
            return PieceChecks()
        return check_pieces(graph, lowered, *references, batches, settled, config.bisect)
    rest = settle(lowered.precision, config.budgets)
    found = check_pieces(plain, lowered, *references, batches, rest, config.bisect)
    types = {s.name: s.dtype for s in graph.inputs}
    batch = {k: cast_to(v, types[k]) for k, v in batches[0].items()}
    limits = QUANT_LIMITS[lowered.precision.value]
    checks, notes = check_quantised(graph, plain, batch, limits, cases[0].real)
    own = found.blocks | {c.piece for c in checks}
    return replace(found, checks=(*found.checks, *checks), blocks=own, notes=(*found.notes, *notes))


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
    return all(s.minimum[:1] == (1,) and not s.profiles and s.shape[0] != 1 for s in reference.inputs)


def _truth(lowered: LoweredModel, graph: TracedGraph, case: Case, notes: list[str]) -> Reference | None:
    """The module in float64, or None with a note where it cannot run so (constants typed float32)."""
    wide = Reference(lowered.reference, graph.inputs, [o.name for o in graph.outputs], torch.float64)
    few = {k: v[:1] if _free(wide) else v for k, v in case.inputs.items()}
    try:
        wide.run(few)
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        notes.append(f"no float64 truth: the model does not run in float64 ({first_line(error)})")
        return None
    return wide
