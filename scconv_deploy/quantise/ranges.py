"""Calibration samples -> the range of every activation that will be quantised, by running the graph on them.

The graph runs in ONNX Runtime with those tensors as further outputs, a few samples at a time: only extremes, and
for the percentile method a histogram of 2048 bins from a second pass, are kept.

``onnxruntime.quantization``'s calibrators were not taken: they read models from files, keep all activations of
all samples for histograms, and know nothing of our operators' library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from scconv_deploy.artifacts import TracedGraph
from scconv_deploy.config import CalibMethod
from scconv_deploy.contracts import Progress
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.onnx import OnnxRunner

BINS = 2048
BEYOND = 1e-4
"""Share of a tensor's values that the percentile method lets saturate (99.99 % are kept)."""
BATCH_ELEMENTS = 2**20
"""Input elements of one run: all activations of a run are in memory at once."""
MOST = 512
"""Samples used at most."""

Range = tuple[float, float]


def collect(
    graph: TracedGraph,
    tensors: Sequence[str],
    samples: Mapping[str, np.ndarray],
    method: CalibMethod,
    progress: Progress,
) -> tuple[dict[str, Range], int]:
    """Lowest and highest value of each tensor on the samples, and how many samples were used.

    Args:
        graph: the unquantised graph.
        tensors: names of its inputs or inner values, floating.
        samples: by input name, the first axis being the sample, as the graph's inputs take them or float32.
        method: extremes, or without the :data:`BEYOND` outermost share of values.
        progress: told of every batch.

    Raises:
        InputError: a sample or an activation is not finite, or the graph refuses the samples.
    """
    _must_be_finite(samples)
    given = {s.name: s.dtype for s in graph.inputs}
    arrays = {k: v.astype(given[k]) if v.dtype.kind == "f" else v for k, v in samples.items()}
    batches = list(_batches(graph, arrays))
    inner = [t for t in tensors if t not in given]
    with _opened(graph.model, inner) as runner:
        found = _extremes(runner, batches, tensors, progress)
        if method is CalibMethod.PERCENTILE:
            found = _percentiles(runner, batches, found, progress)
    used = min(MOST, len(next(iter(samples.values()))))
    return found, used


def _must_be_finite(samples: Mapping[str, np.ndarray]) -> None:
    for name, array in samples.items():
        if array.dtype.kind != "f":
            continue
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if bad.any():
            raise InputError(
                f"calibration sample {int(np.argmax(bad))} of input '{name}' holds NaN or infinity "
                f"({int(bad.sum())} of {len(array)} samples do); ranges would be meaningless: take them out"
            )


def _batches(graph: TracedGraph, samples: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Batches of a size the graph takes; the last sample is repeated to fill a batch of fixed size."""
    count = min(MOST, len(next(iter(samples.values()))))
    free = all(s.shape and isinstance(s.shape[0], str) for s in graph.inputs)
    least = max(s.minimum[0] for s in graph.inputs)
    per_sample = sum(a[0].size for a in samples.values())
    size = least
    if free:
        size = max(
            least, min(count, BATCH_ELEMENTS // max(1, per_sample), *(s.maximum[0] for s in graph.inputs))
        )
    for start in range(0, count, size):
        stop = min(start + size, count)
        part = {k: v[start:stop] for k, v in samples.items()}
        if stop - start < least:
            fill = least - (stop - start)
            part = {k: np.concatenate([v, np.repeat(v[-1:], fill, axis=0)]) for k, v in part.items()}
        yield part


def _opened(model: onnx.ModelProto, inner: Sequence[str]) -> OnnxRunner:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {v.name for v in watched.graph.output}
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in inner if n not in known)
    try:
        return OnnxRunner(watched.SerializeToString())
    except CapabilityError as error:
        raise InputError(f"the graph cannot be run for calibration: {error}") from error


def _values(
    runner: OnnxRunner, batches: Sequence[Mapping[str, np.ndarray]], progress: Progress
) -> Iterator[dict[str, np.ndarray]]:
    for index, batch in enumerate(batches):
        progress.update("calibrating", index / len(batches))
        yield {**batch, **runner.run(batch)}


def _extremes(
    runner: OnnxRunner,
    batches: Sequence[Mapping[str, np.ndarray]],
    tensors: Sequence[str],
    progress: Progress,
) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for values in _values(runner, batches, progress):
        for name in tensors:
            low, high = float(values[name].min()), float(values[name].max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise InputError(
                    f"'{name}' becomes NaN or infinite on the calibration samples, so it has no range; look at "
                    "what the model makes of them (scconv-export --precision fp32 --calib ... reports it)"
                )
            before = found.get(name, (low, high))
            found[name] = (min(low, before[0]), max(high, before[1]))
    return found


def _percentiles(
    runner: OnnxRunner,
    batches: Sequence[Mapping[str, np.ndarray]],
    extremes: Mapping[str, Range],
    progress: Progress,
) -> dict[str, Range]:
    counts = {name: np.zeros(BINS) for name in extremes}
    for values in _values(runner, batches, progress):
        for name, limits in extremes.items():
            if limits[0] < limits[1]:
                counts[name] += np.histogram(values[name].astype(np.float64), bins=BINS, range=limits)[0]
    return {name: _without_tails(counts[name], limits) for name, limits in extremes.items()}


def _without_tails(counts: np.ndarray, limits: Range) -> Range:
    """The shortest range of whole bins with at most half of :data:`BEYOND` outside on either side."""
    total = counts.sum()
    if total == 0:
        return limits
    edges = np.linspace(*limits, BINS + 1)
    below = np.cumsum(counts) / total
    first = int(np.searchsorted(below, BEYOND / 2, side="right"))
    last = int(np.searchsorted(below, 1.0 - BEYOND / 2, side="left"))
    return float(edges[min(first, BINS - 1)]), float(edges[min(last, BINS - 1) + 1])
