"""The pipeline: THE order of the stages, and their caller.

``load -> recognise -> lower -> trace -> simplify -> quantize -> build -> verify -> benchmark -> package``

``--autotune`` adds ``tune`` between ``recognise`` and ``lower``: it times graph forms and lower writes the fastest.

Two stages are called elsewhere: ``inspect`` by the command line (it needs no torch), and ``benchmark`` by
:mod:`scconv_deploy.benchmarking`, the pipeline of ``scconv-bench``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from scconv_deploy import registry
from scconv_deploy.artifacts import (
    BuiltArtifact,
    Bundle,
    LoweredModel,
    SourceModel,
    TensorSpec,
    TracedGraph,
)
from scconv_deploy.clock import StageClock
from scconv_deploy.config import QUANTISED, Budgets, ExportConfig, Form, GateForm, ShapeRange
from scconv_deploy.contracts import Exporter, Metric, RunListener
from scconv_deploy.errors import CapabilityError, InputError, VerificationError
from scconv_deploy.inputs import UNBOUNDED, example_tensors, fixed_batch, settle, small_shape
from scconv_deploy.multiples import find_multiples, settle_batch
from scconv_deploy.packaging.formats import known_format, write_package
from scconv_deploy.parity.cases import read_samples
from scconv_deploy.parity.reference import Reference
from scconv_deploy.scconv.typed import typed_inputs
from scconv_deploy.shape_profiles import with_profiles
from scconv_deploy.stages import (
    build,
    load,
    lower,
    package,
    quantize,
    recognise,
    reopen,
    simplify,
    trace,
    tune,
    verify,
)
from scconv_deploy.tensorrt_options import words as builder_words
from scconv_deploy.verdicts import GoldenSamples, ParityReport, Verdict
from scconv_deploy.workspace import workspace


def run_export(
    source: str | Path | nn.Module | ExportedProgram,
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
    _refuse_what_is_not_built_yet(config, exporter)
    tune.must_be_timeable(exporter, config)
    form = quantize.form_of(exporter, config)
    quantize.must_have_samples(config)
    typed = quantize.graph_type(form, config)
    notes = list(exporter.check(config))
    for text in notes:
        listener.note(text)
    for name in config.packages:
        known_format(name)
    destination = config.out or _default_destination(source, config)
    clock = StageClock(listener)
    with workspace(destination, config.force) as space:
        with clock.stage("load") as done:
            model = load.run(source, config, example_inputs)
            done(model.kind)
        inputs, input_notes = _settle_inputs(model, config, exporter, example_inputs)
        samples = read_samples(config.calib, inputs) if config.calib else None
        with clock.stage("recognise") as done:
            recognition = recognise.run(model.module, seed=config.seed)
            done(_recognised(len(recognition.blocks), len(recognition.left_as_is)))
        style = replace(exporter.style(config), literal_gate=config.gate is GateForm.SIGMOID)
        tuning = None
        if config.autotune_seconds is not None:
            with clock.stage("tune") as done:
                candidates = tune.candidates(exporter, config, style)
                tuning = tune.run(model, recognition, style, candidates, inputs, config, listener)
                done(tuning.sentence)
            notes.append(f"autotune: {tuning.sentence}")
        with clock.stage("lower") as done:
            small = example_tensors(inputs, config.seed, {s.name: small_shape(s) for s in inputs})
            styles = tuning.styles if tuning else None
            lowered = lower.run(model, recognition, style, small, inputs, typed, styles)
            done(f"{len(lowered.folded)} BatchNorms folded, typed {typed.value}")
        with clock.stage("trace") as done:
            graph = _trace(lowered, inputs, config)
            done(f"{len(graph.model.graph.node)} nodes, opset {graph.opset}")
        with clock.stage("simplify") as done:
            graph = simplify.run(graph, config)
            done(f"{len(graph.model.graph.node)} nodes")
        if form is not None and samples is not None:
            with clock.stage("quantize") as done:
                graph = quantize.run(graph, samples, form, config, listener)
                done(quantize.in_words(graph))
        with clock.stage("build") as done:
            built = build.run(exporter, graph, config, space.folder, listener)
            done(
                f"{built.primary.name}, {built.primary.stat().st_size / 1e6:.2f} MB, {built.precision_built}"
            )
        with clock.stage("verify") as done:
            parity: ParityReport | None = None
            if config.verify:
                judged = _judged_by(config, built)
                parity, golden = verify.run(built, graph, lowered, samples, judged, listener)
                if parity.verdict is Verdict.FAIL:
                    raise VerificationError(f"{parity.sentence}; nothing was written", parity)
                done(f"{parity.verdict.value}: {parity.sentence}")
            else:
                golden = _golden_only(lowered.reference, graph, samples, config)
                done("skipped (--no-verify)")
        late = [*model.notes, *input_notes, *graph.notes, *built.notes]
        notes += late
        for text in late:
            listener.note(text)
        with clock.stage("package") as done:
            contents = package.Contents(
                model, recognition, graph, built, parity, golden, tuple(clock.timings), tuple(notes), style
            )
            manifest = package.run(replace(contents, tuning=tuning), config, space.folder)
            space.promote(config.force)
            packed = [write_package(name, space.destination, force=config.force) for name in config.packages]
            done(", ".join(map(str, (space.destination, *packed))))
    return Bundle(space.destination, space.destination / built.primary.name, manifest, parity)


def run_verify(
    bundle: Path,
    *,
    model: Path | None = None,
    samples: Path | None = None,
    factory: str | None = None,
    variant: str | None = None,
    trust: tuple[str, ...] = (),
    budgets: Budgets | None = None,
    bisect: bool = False,
    metric: Metric | None = None,
    listener: RunListener,
) -> ParityReport:
    """Verify a bundle again: against its golden samples, or in full against the PyTorch ``model``.

    The model is lowered as it was for the bundle: same precision, gate and graph forms. ``metric`` is the
    user's own measure of quality, computed from outputs by name.

    Raises:
        InputError: not a bundle, or altered; a model or samples that do not fit it.
        CapabilityError: int8 or fp8 codes cannot be judged, since the model is traced to another graph now.
    """
    clock = StageClock(listener)
    with clock.stage("reopen") as done:
        opened = reopen.run(bundle)
        built, graph, golden = opened.built, opened.graph, opened.golden
        done(f"{built.primary.name}, hashes agree")
    config = replace(
        opened.config,
        factory=factory,
        # A variant is a name; a factory or a class would be code, which nobody's bundle may ask for.
        variant=variant or opened.config.variant,
        trust=trust,
        budgets=budgets or Budgets(),
        bisect=bisect,
        # TorchScript does not say its own.
        shapes=tuple(ShapeRange(s.name, s.minimum, s.optimum, s.maximum) for s in graph.inputs),
    )
    if model is None:
        if samples is not None:
            raise InputError(
                "--samples needs the MODEL too; without it only the golden samples can be compared"
            )
        with clock.stage("verify") as done:
            report = verify.run_golden(built, graph, golden, _judged_by(config, built))
            done(f"{report.verdict.value}: {report.sentence}")
        return report
    with clock.stage("load") as done:
        source = load.run(model, config)
        done(source.kind)
    with clock.stage("recognise") as done:
        recognition = recognise.run(source.module, seed=config.seed)
        done(_recognised(len(recognition.blocks), len(recognition.left_as_is)))
    arrays = read_samples(samples, graph.inputs) if samples else None
    if arrays is None and opened.has_real_samples:
        arrays = dict(golden.inputs)
    with clock.stage("verify") as done:
        small = example_tensors(graph.inputs, config.seed, {s.name: small_shape(s) for s in graph.inputs})
        small = typed_inputs(small, torch.float32)  # the graph's inputs may be half, the reference's are not
        typed = config.rest or config.precision
        styles = opened.styles
        lowered = lower.run(source, recognition, opened.style, small, graph.inputs, typed, styles)
        if config.precision in QUANTISED:
            # The bundle holds codes; what they stand for is the graph that the model is traced to.
            plain = simplify.run(trace.run(lowered, graph.inputs, config), config)
            reopen.must_trace_alike(opened, plain, model, source.sha256)
            graph = replace(graph, unquantised=plain)
        judged = _judged_by(config, built)
        report, _ = verify.run(built, graph, lowered, arrays, judged, listener, metric)
        done(f"{report.verdict.value}: {report.sentence}")
    return report


def _settle_inputs(
    model: SourceModel,
    config: ExportConfig,
    exporter: Exporter,
    example_inputs: Sequence[torch.Tensor] | None,
) -> tuple[tuple[TensorSpec, ...], list[str]]:
    inputs = settle(model.module, model.inputs, config.shapes, example_inputs, exporter.dynamic_batch)
    inputs, batch_notes = settle_batch(model.module, inputs)
    inputs, size_notes = find_multiples(model.module, inputs)
    inputs, profile_notes = with_profiles(inputs, config.profiles)
    return inputs, batch_notes + size_notes + profile_notes


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


def _judged_by(config: ExportConfig, built: BuiltArtifact) -> ExportConfig:
    """With the limits of TF32 where the engine really runs with it: elsewhere the graph stands for it, in fp32."""
    tf32 = config.tensorrt.tf32 and built.not_executed is None
    return replace(config, budgets=replace(config.budgets, tf32=tf32))


def _golden_only(
    reference: nn.Module,
    graph: TracedGraph,
    samples: Mapping[str, np.ndarray] | None,
    config: ExportConfig,
) -> GoldenSamples:
    """The user's samples where there are any: noise leaves the ranges of a quantised graph."""
    runner = Reference(reference, graph.inputs, [o.name for o in graph.outputs])
    cases = verify.cases_of(graph, samples, config.seed)
    return verify.golden_samples(runner, [c for c in cases if c.real] or cases[:1])


def _refuse_what_is_not_built_yet(config: ExportConfig, exporter: Exporter) -> None:
    given = [*builder_words(config.tensorrt), *(["--profile"] if config.profiles else [])]
    if given and not getattr(exporter, "takes_tensorrt_options", False):
        option = given[0].partition("=")[0]
        raise InputError(
            f"{option} is an option of TensorRT's builder and --target {config.target} has no such; leave it "
            "out, or use --target trt"
        )
    # A target that says nothing about forms has the standard one.
    if config.form not in getattr(exporter, "forms", (Form.STANDARD,)):
        raise CapabilityError(
            f"--form {config.form.value} is not available for --target {config.target} in this version; "
            "use --form standard"
        )


def _default_destination(source: str | Path | nn.Module | ExportedProgram, config: ExportConfig) -> Path:
    stem = Path(source).stem if isinstance(source, str | Path) else type(source).__name__.lower()
    return Path(f"{stem}-{config.target}-{config.precision.value}")


def _recognised(blocks: int, left: int) -> str:
    text = f"{blocks} SCConv block{'' if blocks == 1 else 's'} certified"
    return text + (f", {left} left as {'it is' if left == 1 else 'they are'}" if left else "")
