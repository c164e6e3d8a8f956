"""Widths x sizes x batches -> where an SCConv block is faster than the 3x3 convolution it replaces.

Each point races the two models of :mod:`scconv_deploy.bench.block_graphs` in ONNX Runtime, in the rounds of
:mod:`scconv_deploy.bench.rounds`: a ratio compares neighbours in time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from scconv_deploy.bench.block_graphs import INPUT, KERNEL, block_graph, plain_graph
from scconv_deploy.bench.openers import RunnerOpener
from scconv_deploy.bench.rounds import Pause, Plan, Samples, measure
from scconv_deploy.bench.statistics import ratio, summarise
from scconv_deploy.bench.workers import LocalWorker
from scconv_deploy.bench_config import BreakEvenConfig
from scconv_deploy.config import Form
from scconv_deploy.contracts import Progress, Silence
from scconv_deploy.measurements import Estimate
from scconv_deploy.profiles import BreakEven, BreakEvenPoint, Standing, standing
from scconv_deploy.scconv.reference.families import family_spec

RUNTIME = "onnxruntime"

Point = tuple[int, int, int]
"""Channels, side, batch."""

Race = Callable[[Point], tuple[Samples, Samples]]
"""Runs one point; samples of the block and of the plain convolution."""


def break_even(config: BreakEvenConfig, folder: Path, progress: Progress) -> BreakEven:
    """Run the sweep.

    Args:
        config: what to sweep and for how long.
        folder: for the models; lives as long as the run.
        progress: hears which point is being measured.

    Raises:
        InputError: the family is unknown or cannot have one of the widths.
    """
    for channels in config.channels:  # before minutes are spent
        family_spec(config.family, channels)

    def race(point: Point) -> tuple[Samples, Samples]:
        return race_in_onnxruntime(point, config, folder)

    return sweep(config, race, progress)


def sweep(config: BreakEvenConfig, race: Race, progress: Progress) -> BreakEven:
    """Race every point; ``race`` is the measurement, so that tests can bring their own times."""
    every = list(itertools.product(config.batches, config.sides, config.channels))
    points = []
    for index, (batch, side, channels) in enumerate(every):
        progress.update(f"C = {channels} at {side}x{side}, batch {batch}", index / len(every))
        block, plain = race((channels, side, batch))
        found = ratio(block, plain, config.seed)
        points.append(
            BreakEvenPoint(
                channels=channels,
                side=side,
                batch=batch,
                block_ms=_median(block, config.seed),
                plain_ms=_median(plain, config.seed),
                ratio=found,
                standing=standing(found),
            )
        )
    return BreakEven(
        family=config.family,
        form=config.form.value,
        threads=config.threads,
        kernel=KERNEL,
        points=tuple(points),
        sentences=tuple(
            sentence(side, batch, [p for p in points if (p.side, p.batch) == (side, batch)])
            for batch, side in itertools.product(config.batches, config.sides)
        ),
        notes=_notes(config.form),
    )


def sentence(side: int, batch: int, points: Sequence[BreakEvenPoint]) -> str:
    """From which width on the block is not slower, at one size and batch.

    "From" means: there and at every larger width measured. A width between two measured ones is not guessed.
    """
    ordered = sorted(points, key=lambda p: p.channels)
    where = f"at {side}x{side}, batch {batch}"
    slower = [p for p in ordered if p.standing is Standing.SLOWER]
    if not slower:
        return f"{where}: not slower at any width measured (C = {_widths(ordered)})"
    worst = slower[-1]
    if worst is ordered[-1]:
        return f"{where}: does not break even up to C = {worst.channels} ({worst.ratio.value:.2f} times the time)"
    first = ordered[ordered.index(worst) + 1]
    return (
        f"{where}: breaks even from C = {first.channels} ({first.ratio.value:.2f} of the time; "
        f"C = {worst.channels}: {worst.ratio.value:.2f})"
    )


def race_in_onnxruntime(
    point: Point, config: BreakEvenConfig, folder: Path, pause: Pause = time.sleep
) -> tuple[Samples, Samples]:
    """Time both models in turns in this process."""
    channels, side, batch = point
    shape = (batch, channels, side, side)
    rng = np.random.default_rng(config.seed)
    arrays = {INPUT: rng.standard_normal(shape, dtype=np.float32)}
    graphs = {
        "block": block_graph(config.family, config.form, shape, config.seed),
        "plain": plain_graph(shape, config.seed),
    }
    with ExitStack() as stack:
        workers = []
        for name, graph in graphs.items():
            file = folder / f"{name}-{channels}-{side}-{batch}.onnx"
            file.write_bytes(graph.SerializeToString())
            opener = RunnerOpener(RUNTIME, file)
            workers.append(stack.enter_context(LocalWorker(name, opener, config.threads, arrays)))
        for worker in workers:
            worker.open()
        warm_ups = [w.warm_up(config.warm_up_ms) for w in workers]
        plan = Plan(config.warm_up_ms, config.duration_s, 1)
        block, plain = measure(workers, warm_ups, plan, Silence(), pause)
    return block, plain


def _median(samples: Samples, seed: int) -> Estimate:
    found = summarise(samples, (50.0,), seed)
    return Estimate(found.median_ms, *found.median_interval_ms)


def _widths(points: Sequence[BreakEvenPoint]) -> str:
    return ", ".join(str(p.channels) for p in points)


def _notes(form: Form) -> tuple[str, ...]:
    notes = ["a block alone, from and to plain memory; inside a network neighbours share layout changes"]
    if form is Form.STANDARD:
        notes.append("standard operators; --form plugin races the fused kernels")
    return tuple(notes)
