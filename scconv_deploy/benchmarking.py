"""Subjects -> :class:`BenchReport`: the pipeline of ``scconv-bench``.

``load -> prepare (recognise, naive export, plain twin, our bundle) -> benchmark -> explain -> compare with a
baseline``

The second caller of stages beside :mod:`scconv_deploy.pipeline`, whose export makes the bundles measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from scconv_deploy.artifacts import Recognition, SourceModel
from scconv_deploy.bench.baseline import against, read_baseline
from scconv_deploy.bench.break_even import break_even
from scconv_deploy.bench.explain import Explained, explain
from scconv_deploy.bench.machine import this_machine, versions
from scconv_deploy.bench.models import Export, Model, prepare_model, wanted_kinds
from scconv_deploy.bench.subjects import Prepared, bundle_subject, onnx_subject
from scconv_deploy.bench_config import BackendKind, BenchConfig, BreakEvenConfig
from scconv_deploy.checkpoint.kinds import Kind, kind_of
from scconv_deploy.clock import StageClock
from scconv_deploy.config import ExportConfig, Form
from scconv_deploy.contracts import RunListener, Silence
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import settle
from scconv_deploy.measurements import SCHEMA_VERSION, BenchReport
from scconv_deploy.pipeline import run_export
from scconv_deploy.stages import benchmark, load, recognise

BenchSubject = str | Path | nn.Module


def run_benchmark(
    subjects: Sequence[BenchSubject], config: BenchConfig, listener: RunListener
) -> BenchReport:
    """Measure bundles (folders), ``.onnx`` files and models (files, or modules in memory) side by side.

    Raises:
        InputError: a subject or the baseline cannot be read, or the yardstick is none of the backends.
        CapabilityError: nothing could be measured here, a worker died while it was timed, or ONNX Runtime did
            not run the provider that was asked for.
    """
    stored = read_baseline(config.baseline) if config.baseline is not None else None
    clock = StageClock(listener)
    with TemporaryDirectory(prefix="scconv-bench-") as name:
        folder = Path(name)
        with clock.stage("load") as done:
            loaded = [_load(s, config) for s in subjects]
            done(f"{len(loaded)} subject{'' if len(loaded) == 1 else 's'}")
        prepared = _prepare(loaded, config, folder, listener, clock)
        with clock.stage("benchmark") as done:
            found = benchmark.run(prepared, config, folder, listener)
            done(f"{len(found.measurements)} measurements")
        explained = Explained()
        if config.explain:
            with clock.stage("explain") as done:
                explained = explain(prepared, found.measurements, found.conditions, config, folder, listener)
                done(f"{len(explained.tables)} honesty table{'' if len(explained.tables) == 1 else 's'}")
    report = BenchReport(
        schema_version=SCHEMA_VERSION,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        versions=versions(),
        config=config,
        measurements=found.measurements,
        conditions=found.conditions,
        not_measured=found.not_measured,
        notes=explained.notes,
        honesty=explained.tables,
    )
    return report if stored is None else against(stored, report, config.fail_if_slower)


def run_benchmark_and_sweep(
    subjects: Sequence[BenchSubject],
    config: BenchConfig,
    sweep: BreakEvenConfig | None,
    listener: RunListener,
) -> BenchReport:
    """Measure what is named, sweep what is asked for: one report of either or both.

    Raises:
        InputError: neither is asked for; and as :func:`run_benchmark` and :func:`run_break_even`.
    """
    if sweep is None:
        if not subjects:
            raise InputError("name what to measure: a bundle, a model or an ONNX file; or ask for a sweep")
        return run_benchmark(subjects, config, listener)
    report = run_benchmark(subjects, config, listener) if subjects else None
    swept = run_break_even(sweep, listener)
    return swept if report is None else replace(report, break_even=swept.break_even)


def run_break_even(config: BreakEvenConfig, listener: RunListener) -> BenchReport:
    """One SCConv block against a plain convolution, over widths, sizes and batches; a report without subjects.

    Raises:
        InputError: the family is unknown or cannot have one of the widths.
    """
    with TemporaryDirectory(prefix="scconv-bench-") as name, StageClock(listener).stage("break-even") as done:
        found = break_even(config, Path(name), listener)
        done(f"{len(found.points)} points")
    return BenchReport(
        schema_version=SCHEMA_VERSION,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        versions=versions(),
        config=BenchConfig(
            batches=config.batches,
            threads=(config.threads,),
            warm_up_ms=config.warm_up_ms,
            duration_s=config.duration_s,
            seed=config.seed,
        ),
        measurements=(),
        conditions=(),
        break_even=found,
    )


class _Inside(Silence):
    """What an export inside a benchmark tells: its progress only."""

    def __init__(self, listener: RunListener, prefix: str) -> None:
        self._listener, self._prefix = listener, prefix

    def started(self, stage: str) -> None:
        """The stage's name is progress here."""
        self._listener.update(f"{self._prefix}: {stage}")


def _load(subject: BenchSubject, config: BenchConfig) -> Prepared | Model:
    if isinstance(subject, nn.Module):
        return _model(subject, type(subject).__qualname__, None, config)
    path = Path(subject)
    if path.is_dir():
        return bundle_subject(str(subject), config.shapes, config.provider)
    if path.is_file() and kind_of(path) is Kind.ONNX:
        return onnx_subject(str(subject), config.shapes, config.provider)
    return _model(subject, str(subject), path.stat().st_size if path.is_file() else None, config)


def _model(subject: BenchSubject, text: str, size: int | None, config: BenchConfig) -> Model:
    reading = ExportConfig(
        target="onnx",
        shapes=config.shapes,
        factory=config.factory,
        variant=config.variant,
        trust=config.trust,
    )
    source: SourceModel = load.run(subject, reading)
    inputs = settle(source.module, source.inputs, config.shapes, None, dynamic_batch=True)
    return Model(text, "", source.module, inputs, size)


def _prepare(
    loaded: Sequence[Prepared | Model],
    config: BenchConfig,
    folder: Path,
    listener: RunListener,
    clock: StageClock,
) -> list[Prepared]:
    models = [m for m in loaded if isinstance(m, Model)]
    kinds = wanted_kinds(config, bundles=len(models) < len(loaded))
    ready: list[Prepared] = []
    for index, subject in enumerate(loaded):
        if isinstance(subject, Prepared):
            ready.append(subject)
            continue
        with clock.stage("prepare") as done:
            own = folder / f"model{index}"
            own.mkdir()
            model = subject if len(models) == 1 else _suffixed(subject)
            recognition = Recognition((), ())
            if BackendKind.PLAIN in kinds:
                listener.update("looking for SCConv blocks")
                recognition = recognise.run(model.module, seed=config.seed)
            made = prepare_model(
                model, kinds, recognition, config, own, _exporter(config, listener), listener
            )
            done(", ".join(c.name for c in made.candidates) or "nothing")
        ready.append(made)
    return ready


def _suffixed(model: Model) -> Model:
    return Model(model.text, f" of {Path(model.text).name}", model.module, model.inputs, model.size_bytes)


def _exporter(config: BenchConfig, listener: RunListener) -> Export:
    """Exports a module to ONNX as a user would, telling progress only."""

    def export(
        module: nn.Module, example: Sequence[torch.Tensor], out: Path, form: Form, verified: bool
    ) -> Path:
        asked = ExportConfig(target="onnx", out=out, form=form, verify=verified, seed=config.seed)
        return run_export(module, asked, _Inside(listener, out.name), example).path

    return export
