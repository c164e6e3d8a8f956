"""benchmark: prepared subjects -> one :class:`Measurement` per backend, batch and thread count, side by side.

In one setting (batch, threads) every backend is open at once in a process of its own and takes turns with the
others in rounds (:mod:`scconv_deploy.bench.rounds`). Ratios refer to calls in the same rounds.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scconv_deploy.bench.host import NoiseMeter
from scconv_deploy.bench.openers import NotPortableError
from scconv_deploy.bench.rounds import Pause, Plan, Samples, measure
from scconv_deploy.bench.session import Opening
from scconv_deploy.bench.statistics import ratio, summarise
from scconv_deploy.bench.stopwatch import WarmUp
from scconv_deploy.bench.subjects import Candidate, Prepared, Setting, bench_inputs, refusal
from scconv_deploy.bench.workers import LocalWorker, ProcessWorker
from scconv_deploy.bench_config import BackendKind, BenchConfig
from scconv_deploy.contracts import RunListener
from scconv_deploy.errors import CapabilityError, InputError, ScconvDeployError, nearest
from scconv_deploy.measurements import Conditions, Measurement
from scconv_deploy.threads import torch_threads


@dataclass(frozen=True, slots=True)
class Found:
    """Result of the stage; ``not_measured`` has one sentence per backend left out."""

    measurements: tuple[Measurement, ...]
    conditions: tuple[Conditions, ...]
    not_measured: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A backend that is open and warm."""

    candidate: Candidate
    worker: LocalWorker | ProcessWorker
    opening: Opening
    warm_up: WarmUp


def run(prepared: Sequence[Prepared], config: BenchConfig, folder: Path, listener: RunListener) -> Found:
    """Measure every combination of ``config.batches`` and ``config.threads``.

    Args:
        prepared: the subjects, in the table's order.
        config: how to measure.
        folder: for inputs; lives as long as the run.
        listener: hears progress.

    Raises:
        CapabilityError: nothing could be measured, a worker died while being timed, or ONNX Runtime did not run
            the provider that was asked for.
        InputError: the yardstick names no backend.
    """
    left_out = _Reasons()
    for note in (n for p in prepared for n in p.notes):
        left_out(note)
    candidates = distinct([c for p in prepared for c in p.candidates])
    pick_yardstick(candidates, config.yardstick)  # before minutes are spent
    measurements: list[Measurement] = []
    conditions: list[Conditions] = []
    for batch, threads in itertools.product(config.batches, config.threads):
        setting = Setting(batch, threads, config.seed)
        where = f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}"
        with contextlib.ExitStack() as stack, torch_threads(threads):
            ready = _open_all(candidates, setting, config, folder, stack, left_out, listener, where)
            if ready:
                taken, condition = compare(ready, setting, config, listener)
                measurements += taken
                conditions.append(condition)
    if not measurements:
        raise CapabilityError(
            f"nothing could be measured here: {'; '.join(left_out.sentences) or 'no subject given'}"
        )
    return Found(tuple(measurements), tuple(conditions), tuple(left_out.sentences))


def compare(
    ready: Sequence[Ready],
    setting: Setting,
    config: BenchConfig,
    listener: RunListener,
    pause: Pause = time.sleep,
) -> tuple[list[Measurement], Conditions]:
    """Measure open backends against each other; the order given is the order of the table."""
    yardstick = pick_yardstick([r.candidate for r in ready], config.yardstick)
    meter = NoiseMeter([r.worker.pid for r in ready if r.worker.pid is not None])
    plan = Plan(config.warm_up_ms, config.duration_s, config.iterations)
    samples = measure(
        [r.worker for r in ready], [r.warm_up for r in ready], plan, listener, pause, meter.sample
    )
    condition = Conditions(setting.batch, setting.threads, yardstick, meter.stop())
    by_name = {s.name: s for s in samples}
    return [
        _measurement(r, by_name, yardstick, _naive_of(r, ready), setting, config) for r in ready
    ], condition


def pick_yardstick(candidates: Sequence[Candidate], wanted: str | None) -> str:
    """The backend of that name, else the first of that subject (path or folder name).

    Without a wish it is the first plain twin, which is what SCConv replaces; without one, the first.

    Raises:
        InputError: nothing is called so.
    """
    if not candidates:
        return ""
    if wanted is None:
        plain = (c.name for c in candidates if c.kind == BackendKind.PLAIN.value)
        return next(plain, candidates[0].name)
    for candidate in candidates:
        if wanted in (candidate.name, candidate.kind):
            return candidate.name
    for candidate in candidates:
        if wanted == candidate.subject or Path(wanted).name == Path(candidate.subject).name:
            return candidate.name
    known = list(dict.fromkeys([c.name for c in candidates] + [c.subject for c in candidates]))
    raise InputError(
        f"the yardstick '{wanted}' is none of what is measured ({', '.join(known)}){nearest(wanted, known)}"
    )


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Equal names (two bundles in folders of one name) become paths, then numbers."""
    result: list[Candidate] = []
    for candidate in candidates:
        name = candidate.name
        if sum(c.name == name for c in candidates) > 1:
            name = f"{name} ({candidate.subject})"
        taken = {c.name for c in result}
        if name in taken:
            name = next(n for i in itertools.count(2) if (n := f"{name} #{i}") not in taken)
        result.append(replace(candidate, name=name))
    return result


class _Reasons:
    """Keeps each reason once."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __call__(self, sentence: str) -> None:
        if sentence not in self.sentences:
            self.sentences.append(sentence)


def _open_all(
    candidates: Sequence[Candidate],
    setting: Setting,
    config: BenchConfig,
    folder: Path,
    stack: contextlib.ExitStack,
    left_out: _Reasons,
    listener: RunListener,
    where: str,
) -> list[Ready]:
    started: list[tuple[Candidate, LocalWorker | ProcessWorker]] = []
    for index, candidate in enumerate(candidates):
        reason = refusal(candidate.inputs, setting.batch)
        if reason is not None:
            left_out(f"{candidate.name} is not measured at batch {setting.batch}: {reason}")
            continue
        started.append((candidate, _worker(candidate, setting, folder / f"inputs{index}.npz", stack)))
    ready: list[Ready] = []
    for candidate, first in started:
        worker = first
        listener.update(f"{where}: opening and warming up {candidate.name}")
        try:
            try:
                opening = worker.open()
            except NotPortableError:
                worker = stack.enter_context(_local(candidate, setting))
                opening = worker.open()
            ready.append(Ready(candidate, worker, opening, worker.warm_up(config.warm_up_ms)))
        except ScconvDeployError as error:
            # A provider that the user named and that does not run is an error, not a gap in the table.
            if not candidate.optional:
                raise
            left_out(f"{candidate.name} is not measured at {where}: {error}")
    return ready


def _worker(
    candidate: Candidate, setting: Setting, inputs: Path, stack: contextlib.ExitStack
) -> LocalWorker | ProcessWorker:
    if candidate.opener is None:
        return stack.enter_context(_local(candidate, setting))
    arrays = bench_inputs(candidate.inputs, setting)
    # NumPy would take an input called "file" for its own argument.
    with inputs.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stack.enter_context(ProcessWorker(candidate.name, candidate.opener, setting.threads, inputs))


def _local(candidate: Candidate, setting: Setting) -> LocalWorker:
    if candidate.local is None:
        raise CapabilityError(f"{candidate.name} cannot be opened in a process of its own, nor in this one")
    arrays = bench_inputs(candidate.inputs, setting)
    return LocalWorker(candidate.name, candidate.local, setting.threads, arrays)


def _naive_of(one: Ready, ready: Sequence[Ready]) -> str | None:
    """The naive export to compare with: of the same subject, else the only one there is."""
    naive = [r.candidate for r in ready if r.candidate.kind == BackendKind.NAIVE.value]
    own = [c for c in naive if c.subject == one.candidate.subject]
    found = own or (naive if len(naive) == 1 else [])
    return found[0].name if found else None


def _measurement(
    one: Ready,
    samples: dict[str, Samples],
    yardstick: str,
    naive: str | None,
    setting: Setting,
    config: BenchConfig,
) -> Measurement:
    candidate, worker = one.candidate, one.worker
    own = samples[candidate.name]
    summary = summarise(own, config.percentiles, config.seed)
    return Measurement(
        name=candidate.name,
        subject=candidate.subject,
        kind=candidate.kind,
        runtime=candidate.runtime,
        precision=candidate.precision,
        batch=setting.batch,
        threads=setting.threads,
        rounds=summary.rounds,
        calls=summary.calls,
        median_ms=summary.median_ms,
        median_interval_ms=summary.median_interval_ms,
        mean_ms=summary.mean_ms,
        std_ms=summary.std_ms,
        min_ms=summary.min_ms,
        max_ms=summary.max_ms,
        percentiles_ms=summary.percentiles_ms,
        items_per_s=setting.batch * 1000 / summary.mean_ms,
        against_yardstick=ratio(own, samples[yardstick], config.seed),
        against_naive=None if naive is None else ratio(own, samples[naive], config.seed),
        load_ms=one.opening.load_ms,
        first_run_ms=one.opening.first_run_ms,
        warm_up_calls=one.warm_up.calls,
        settled=one.warm_up.settled,
        overhead_us=one.opening.overhead_us,
        size_bytes=candidate.size_bytes,
        memory=worker.memory(),
        own_process=worker.own_process,
        gpu=worker.device_times(),
        samples_ms=tuple(tuple((r / 1e6).tolist()) for r in own.rounds) if config.raw else None,
        notes=one.opening.notes,
    )
