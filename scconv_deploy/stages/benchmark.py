"""benchmark: subjects -> one :class:`Timing` per backend, batch and thread count, measured side by side.

All backends of one batch and thread count live in this process at once and take turns in rounds (see
:mod:`scconv_deploy.bench.rounds`). Torch gets the thread count globally and gives it back; ONNX Runtime per
session. Ratios refer to the yardstick's calls in the same rounds.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scconv_deploy.artifacts import Timing
from scconv_deploy.bench.rounds import Backend, Clock, Pause, Plan, measure
from scconv_deploy.bench.statistics import summarise
from scconv_deploy.bench.subjects import Setting, Subject
from scconv_deploy.config import BenchConfig
from scconv_deploy.contracts import RunListener
from scconv_deploy.errors import CapabilityError, InputError, nearest
from scconv_deploy.threads import torch_threads


def run(subjects: Sequence[Subject], config: BenchConfig, listener: RunListener) -> tuple[Timing, ...]:
    """Measure every combination of ``config.batches`` and ``config.threads``.

    Raises:
        CapabilityError: nothing at all could be measured on this machine.
        InputError: the yardstick names no subject.
    """
    timings: list[Timing] = []
    said: list[str] = []
    for batch, threads in itertools.product(config.batches, config.threads):
        listener.update(f"opening at batch {batch}, {threads} thread{'s' if threads > 1 else ''}")
        with contextlib.ExitStack() as stack, torch_threads(threads):
            opened = [s.open(Setting(batch, threads, config.seed), stack) for s in subjects]
            for note in (n for o in opened for n in o.notes):
                if note not in said:
                    said.append(note)
                    listener.note(note)
            backends = [b for o in opened for b in o.backends]
            if backends:
                timings += compare(backends, batch, threads, config, listener)
    if not timings:
        raise CapabilityError(f"nothing could be measured here: {'; '.join(said) or 'no subject was given'}")
    return tuple(timings)


def compare(
    backends: Sequence[Backend],
    batch: int,
    threads: int,
    config: BenchConfig,
    listener: RunListener,
    clock: Clock = time.perf_counter_ns,
    pause: Pause = time.sleep,
) -> tuple[Timing, ...]:
    """Measure open backends against each other; the order given is the order of the table.

    Raises:
        InputError: the yardstick names none of them.
    """
    named = distinct(backends)
    yardstick = pick_yardstick(named, config.yardstick, batch)
    plan = Plan(config.warm_up_ms, config.duration_s, config.iterations)
    samples = measure(named, plan, listener, clock, pause)
    return summarise(samples, yardstick, batch=batch, threads=threads, seed=config.seed)


def pick_yardstick(backends: Sequence[Backend], wanted: str | None, batch: int) -> str:
    """The backend of that name, else the first backend of that subject (path or folder name).

    Raises:
        InputError: nothing is called so.
    """
    if wanted is None:
        return backends[0].name
    for backend in backends:
        if wanted == backend.name:
            return backend.name
    for backend in backends:
        if wanted == backend.subject or Path(wanted).name == Path(backend.subject).name:
            return backend.name
    known = list(dict.fromkeys([b.name for b in backends] + [b.subject for b in backends]))
    raise InputError(
        f"the yardstick '{wanted}' is none of what is measured at batch {batch} ({', '.join(known)})"
        f"{nearest(wanted, known)}"
    )


def distinct(backends: Sequence[Backend]) -> list[Backend]:
    """Equal names (two bundles in folders of one name) become paths, then numbers."""
    result: list[Backend] = []
    for backend in backends:
        name = backend.name
        if sum(b.name == name for b in backends) > 1:
            name = f"{name} ({backend.subject})"
        taken = {b.name for b in result}
        if name in taken:
            name = next(n for i in itertools.count(2) if (n := f"{name} #{i}") not in taken)
        result.append(replace(backend, name=name))
    return result
