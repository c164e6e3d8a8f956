"""The pipeline: THE order of the stages, and their only caller (but for ``inspect``, which needs no torch).

``load -> recognise -> lower -> trace -> simplify -> build -> verify -> benchmark -> package``
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from scconv_deploy import registry
from scconv_deploy.artifacts import (
    Bundle,
    LoweredModel,
    SourceModel,
    StageTiming,
    TensorSpec,
    Timing,
    TracedGraph,
)
from scconv_deploy.bench.subjects import BundleSubject, Subject, bundle_subject, model_subject
from scconv_deploy.config import BenchConfig, ExportConfig, Form, Precision
from scconv_deploy.contracts import Exporter, RunListener
from scconv_deploy.errors import CapabilityError, InputError, VerificationError
from scconv_deploy.inputs import UNBOUNDED, example_tensors, fixed_batch, settle, small_shape
from scconv_deploy.multiples import find_multiples, settle_batch
from scconv_deploy.parity.cases import make_cases, read_samples
from scconv_deploy.parity.reference import Reference
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import (
    benchmark,
    build,
    load,
    lower,
    package,
    recognise,
    reopen,
    simplify,
    trace,
    verify,
)
from scconv_deploy.verdicts import GoldenSamples, ParityReport, Verdict
from scconv_deploy.workspace import workspace


def run_export(
    source: str | Path | nn.Module,
    config: ExportConfig,
    listener: RunListener,
    example_inputs: Sequence[torch.Tensor] | None = None,
) -> Bundle:
    """Take a model all the way to a verified bundle on disk.

    Raises:
        InputError, BuildError: the model or the request cannot be used (exit 2).
        CapabilityError: something is missing on this machine (exit 3).
        VerificationError: the artifact is not the user's function (exit 1); nothing is promoted.
    """
    exporter = registry.exporter(config.target)
    _refuse_what_is_not_built_yet(config)
    notes = list(exporter.check(config))
    for text in notes:
        listener.note(text)
    destination = config.out or _default_destination(source, config)
    clock = _Clock(listener)
    with workspace(destination, config.force) as space:
        with clock.stage("load") as done:
            model = load.run(source, config)
            done(model.kind)
        inputs, input_notes = _settle_inputs(model, config, exporter, example_inputs)
        samples = read_samples(config.calib, inputs) if config.calib else None
        with clock.stage("recognise") as done:
            recognition = recognise.run(model.module, seed=config.seed)
            done(_recognised(len(recognition.blocks), len(recognition.left_as_is)))
        with clock.stage("lower") as done:
            small = example_tensors(inputs, config.seed, {s.name: small_shape(s) for s in inputs})
            lowered = lower.run(model, recognition, exporter.style(config), small, inputs)
            done(f"{len(lowered.folded)} BatchNorms folded")
        with clock.stage("trace") as done:
            graph = _trace(lowered, inputs, config)
            done(f"{len(graph.model.graph.node)} nodes, opset {graph.opset}")
        with clock.stage("simplify") as done:
            graph = simplify.run(graph, config)
            done(f"{len(graph.model.graph.node)} nodes")
        with clock.stage("build") as done:
            built = build.run(exporter, graph, config, space.folder, listener)
            done(
                f"{built.primary.name}, {built.primary.stat().st_size / 1e6:.2f} MB, {built.precision_built}"
            )
        with clock.stage("verify") as done:
            parity: ParityReport | None = None
            if config.verify:
                parity, golden = verify.run(built, graph, lowered, samples, config.seed, listener)
                if parity.verdict is Verdict.FAIL:
                    raise VerificationError(f"{parity.sentence}; nothing was written", parity)
                done(f"{parity.verdict.value}: {parity.sentence}")
            else:
                golden = _golden_only(lowered.reference, graph, config)
                done("skipped (--no-verify)")
        late = [*model.notes, *input_notes, *graph.notes, *built.notes]
        notes += late
        for text in late:
            listener.note(text)
        with clock.stage("package") as done:
            contents = package.Contents(
                model, recognition, graph, built, parity, golden, tuple(clock.timings), tuple(notes)
            )
            manifest = package.run(contents, config, space.folder)
            space.promote(config.force)
            done(str(space.destination))
    return Bundle(space.destination, space.destination / built.primary.name, manifest, parity)


def run_verify(
    bundle: Path,
    *,
    model: Path | None = None,
    samples: Path | None = None,
    factory: str | None = None,
    trust: tuple[str, ...] = (),
    listener: RunListener,
) -> ParityReport:
    """Verify a bundle again: against its golden samples, or in full against the PyTorch ``model``.

    Raises:
        InputError: not a bundle, or altered; a model or samples that do not fit it.
    """
    clock = _Clock(listener)
    with clock.stage("reopen") as done:
        built, graph, golden = reopen.run(bundle)
        done(f"{built.primary.name}, hashes agree")
    if model is None:
        if samples is not None:
            raise InputError(
                "--samples needs the MODEL too; without it only the golden samples can be compared"
            )
        with clock.stage("verify") as done:
            report = verify.run_golden(built, graph, golden)
            done(f"{report.verdict.value}: {report.sentence}")
        return report
    config = ExportConfig(target="onnx", factory=factory, trust=trust)
    with clock.stage("load") as done:
        source = load.run(model, config)
        done(source.kind)
    with clock.stage("recognise") as done:
        recognition = recognise.run(source.module, seed=config.seed)
        done(_recognised(len(recognition.blocks), len(recognition.left_as_is)))
    arrays = read_samples(samples, graph.inputs) if samples else dict(golden.inputs)
    with clock.stage("verify") as done:
        small = example_tensors(graph.inputs, config.seed, {s.name: small_shape(s) for s in graph.inputs})
        lowered = lower.run(source, recognition, GraphStyle(), small, graph.inputs)
        report, _ = verify.run(built, graph, lowered, arrays, config.seed, listener)
        done(f"{report.verdict.value}: {report.sentence}")
    return report


def run_benchmark(
    subjects: Sequence[str | Path | nn.Module], config: BenchConfig, listener: RunListener
) -> tuple[Timing, ...]:
    """Measure bundles (folders) and models (files, or modules in memory) side by side.

    Raises:
        InputError: a subject cannot be read, or the yardstick is none of them.
        CapabilityError: nothing could be measured on this machine.
    """
    clock = _Clock(listener)
    with clock.stage("load") as done:
        opened = [_bench_subject(s, config) for s in subjects]
        done(f"{len(opened)} subject{'' if len(opened) == 1 else 's'}")
    ready: list[Subject] = []
    for index, subject in enumerate(opened):
        if isinstance(subject, BundleSubject):
            ready.append(subject)
            continue
        suffix = (
            "" if sum(isinstance(s, SourceModel) for s in opened) == 1 else f" of {Path(subject.origin).name}"
        )
        with clock.stage("naive export") as done:
            inputs = settle(subject.module, subject.inputs, config.shapes, None, dynamic_batch=True)
            listener.update("exporting as torch does by default (minutes where sum() unrolls)")
            made = model_subject(str(subjects[index]), suffix, subject.module, inputs, config)
            done(made.naive_refusal or f"{len(made.naive or b'') / 1e6:.2f} MB")
        ready.append(made)
    with clock.stage("benchmark") as done:
        timings = benchmark.run(ready, config, listener)
        done(f"{len(timings)} measurements")
    return timings


def _bench_subject(subject: str | Path | nn.Module, config: BenchConfig) -> BundleSubject | SourceModel:
    if not isinstance(subject, nn.Module) and Path(subject).is_dir():
        return bundle_subject(str(subject), config.shapes)
    reading = ExportConfig(target="onnx", shapes=config.shapes, factory=config.factory, trust=config.trust)
    return load.run(subject, reading)


class _Clock:
    """Times stages and tells the listener."""

    def __init__(self, listener: RunListener) -> None:
        self.listener = listener
        self.timings: list[StageTiming] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[_Done]:
        self.listener.started(name)
        start = time.perf_counter()
        done = _Done()
        yield done
        timing = StageTiming(name, time.perf_counter() - start, done.result)
        self.timings.append(timing)
        self.listener.finished(timing)


class _Done:
    """Collects a stage's one-phrase result."""

    result = ""

    def __call__(self, result: str) -> None:
        self.result = result


def _settle_inputs(
    model: SourceModel,
    config: ExportConfig,
    exporter: Exporter,
    example_inputs: Sequence[torch.Tensor] | None,
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    inputs = settle(model.module, model.inputs, config.shapes, example_inputs, exporter.dynamic_batch)
    inputs, batch_notes = settle_batch(model.module, inputs)
    inputs, size_notes = find_multiples(model.module, inputs)
    return inputs, batch_notes + size_notes


def _trace(lowered: LoweredModel, inputs: tuple[TensorSpec, ...], config: ExportConfig) -> TracedGraph:
    """Trace; where the batch was opened for the user and the model cannot have it free, fix it and say so."""
    try:
        return trace.run(lowered, inputs, config)
    except InputError as error:
        if not any(s.maximum[:1] == (UNBOUNDED,) for s in inputs):
            raise
        fixed = fixed_batch(inputs)
        graph = trace.run(lowered, fixed, config)
        size = fixed[0].optimum[0]
        note = f"the batch is fixed at {size}: with a free batch, {error}"
        return replace(graph, notes=(*graph.notes, note))


def _golden_only(reference: nn.Module, graph: TracedGraph, config: ExportConfig) -> GoldenSamples:
    runner = Reference(reference, graph.inputs, [o.name for o in graph.outputs])
    return verify.golden_samples(runner, make_cases(graph.inputs, None, config.seed)[:1])


def _refuse_what_is_not_built_yet(config: ExportConfig) -> None:
    if config.precision is not Precision.FP32:
        raise CapabilityError(
            f"precision {config.precision.value} is not available in this version; "
            "only fp32 is built and verified"
        )
    if config.form is not Form.STANDARD:
        raise CapabilityError("--form plugin is not available in this version; use --form standard")


def _default_destination(source: str | Path | nn.Module, config: ExportConfig) -> Path:
    stem = type(source).__name__.lower() if isinstance(source, nn.Module) else Path(source).stem
    return Path(f"{stem}-{config.target}-{config.precision.value}")


def _recognised(blocks: int, left: int) -> str:
    text = f"{blocks} SCConv block{'' if blocks == 1 else 's'} certified"
    return text + (f", {left} left as {'it is' if left == 1 else 'they are'}" if left else "")
