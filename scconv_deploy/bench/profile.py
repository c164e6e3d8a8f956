"""Two models in ONNX Runtime, run in turns under its own profiler -> microseconds of every operator in every run.

Apart from the timed measurement, since ONNX Runtime's profiler puts its own work (it describes every tensor in
words) into every operator's time: 3.4 ms instead of 2.1 for the 488 operators of an SCConv-ResNet-18 at 64x64.
That would weigh on SCConv and hardly on its plain twin, so :func:`profiler_us` measures it once on a chain of
trivial operators, and it is taken off. The models take turns, so that their ratios compare neighbours in time.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from scconv_deploy.config import DEFAULT_OPSET
from scconv_deploy.errors import InputError
from scconv_deploy.runtime.onnx import CPU, OPTIMISED, OnnxRunner

WARM_UP_RUNS = 5
MIN_RUNS = 12
"""Recorded runs at least: an interval over fewer says nothing."""

MAX_RUNS = 400
BURST = 4
"""Recorded runs of a model in a turn."""

PAUSE_S = 0.005
"""Between turns: threads of the session before spin for some milliseconds."""

SECONDS = 2.0
"""Of recorded runs, all models together."""

CHAIN, CHAIN_RUNS = 200, 60
SMALL = (1, 8, 4, 4)
IR_VERSION = 10
SUFFIX = "_kernel_time"
Clock = Callable[[], float]
Pause = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """``nodes``: microseconds by the name of a node in ``graph`` (the optimised one), one number per run;
    ``runs``: how many. ``profiler_us`` was taken off every operator's time."""

    graph: onnx.ModelProto
    nodes: Mapping[str, np.ndarray]
    runs: int
    profiler_us: float = 0.0


def profile_in_turns(
    models: Sequence[tuple[Path, Mapping[str, np.ndarray]]],
    threads: int,
    folder: Path,
    profiler: float,
    seconds: float = SECONDS,
    clock: Clock = time.monotonic,
    pause: Pause = time.sleep,
) -> tuple[Profile, ...]:
    """Profile each ``(file, inputs)``; every profile has the same number of runs.

    Args:
        models: ONNX files with what they are run on. Inputs that a model does not read are left out.
        threads: of each session.
        folder: for profiles and optimised graphs; one subfolder per model is made.
        profiler: microseconds to take off every operator (:func:`profiler_us`).
        seconds: how long, beside the least number of runs.
        clock, pause: seconds; tests inject their own.

    Raises:
        CapabilityError, InputError: as :class:`~scconv_deploy.runtime.onnx.OnnxRunner`.
    """
    folders = [folder / f"profile{i}" for i in range(len(models))]
    with contextlib.ExitStack() as stack:
        calls: list[Call] = []
        for (file, arrays), own in zip(models, folders, strict=True):
            own.mkdir(parents=True, exist_ok=True)
            runner = stack.enter_context(OnnxRunner(file, threads=threads, provider=CPU, profile=own))
            calls.append((runner, _given(runner.input_names, arrays)))
        runs = _run(calls, seconds, clock, pause)
        files = [runner.end_profiling() for runner, _ in calls]
    return tuple(
        corrected(read_profile(_events(file), onnx.load(own / OPTIMISED), runs), profiler)
        for file, own in zip(files, folders, strict=True)
    )


def _given(names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By name; by position where a file calls the same inputs otherwise (a twin, exported anew)."""
    if all(name in arrays for name in names):
        return {name: arrays[name] for name in names}
    if len(names) != len(arrays):
        raise InputError(f"it takes inputs {', '.join(names)}; given were {', '.join(arrays)}")
    return dict(zip(names, arrays.values(), strict=True))


def corrected(profile: Profile, profiler: float) -> Profile:
    """Take ``profiler`` microseconds off every operator in every run; no time becomes negative."""
    nodes = {name: np.maximum(us - profiler, 0.0) for name, us in profile.nodes.items()}
    return replace(profile, nodes=nodes, profiler_us=profiler)


def profiler_us(folder: Path, operators: int = CHAIN, runs: int = CHAIN_RUNS) -> float:
    """What the profiler adds to an operator's time here, from a chain of additions of small tensors.

    The quickest of many runs with and without it: a run takes half a millisecond, so some are undisturbed even
    on a busy machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = _chain(operators).SerializeToString()
    given = {"x": np.ones(SMALL, np.float32)}
    with (
        OnnxRunner(model, threads=1, provider=CPU, profile=folder) as profiled,
        OnnxRunner(model, threads=1, provider=CPU) as bare,
    ):
        quickest = math.inf
        for _ in range(runs):
            profiled.run(given)
            before = time.perf_counter_ns()
            bare.run(given)
            quickest = min(quickest, (time.perf_counter_ns() - before) / 1000)
        events = _events(profiled.end_profiling())
    starts = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    sums = np.zeros(len(starts))
    for event in events:
        if event.get("cat") == "Node":
            sums[max(0, bisect.bisect_right(starts, event["ts"]) - 1)] += event["dur"]
    return max(0.0, float(sums.min()) - quickest) / operators


def _chain(operators: int) -> onnx.ModelProto:
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    names = ["x", *(f"v{i}" for i in range(1, operators)), "y"]
    nodes = [
        onnx.helper.make_node("Add", [names[i], "x"], [names[i + 1]], name=f"add{i}")
        for i in range(operators)
    ]
    graph = onnx.helper.make_graph(
        nodes, "chain", [value("x", kind, list(SMALL))], [value("y", kind, list(SMALL))]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", DEFAULT_OPSET)])
    model.ir_version = IR_VERSION
    return model


Call = tuple[OnnxRunner, Mapping[str, np.ndarray]]


def _run(calls: Sequence[Call], seconds: float, clock: Clock, pause: Pause) -> int:
    """How many recorded runs each model had. A turn is one unrecorded run and a burst of recorded ones:
    alternating single runs would measure cold caches."""
    for runner, given in calls:
        for _ in range(WARM_UP_RUNS):
            runner.run(given)
    start, runs = clock(), 0
    while runs < MIN_RUNS or (clock() - start < seconds and runs < MAX_RUNS):
        for runner, given in calls:
            pause(PAUSE_S)
            for _ in range(1 + BURST):
                runner.run(given)
        runs += BURST
    return runs


def _events(file: Path) -> list[dict[str, Any]]:
    return list(json.loads(file.read_text(encoding="utf-8")))


def recorded(starts: Sequence[int], runs: int) -> list[int]:
    """Which of the trace's runs count: without the warm-up and without the first run of every turn."""
    turns = runs // BURST
    last = list(starts)[len(starts) - turns * (1 + BURST) :]
    return [start for index, start in enumerate(last) if index % (1 + BURST)]


def read_profile(events: Sequence[Mapping[str, Any]], graph: onnx.ModelProto, runs: int) -> Profile:
    """The recorded runs of ONNX Runtime's trace (Chrome's format, times in whole microseconds), ``runs`` of them.

    A node that ran more than once in a run (a loop's body) counts with its sum; one that did not run, as 0.
    """
    every = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    kept = {start: index for index, start in enumerate(recorded(every, runs))}
    nodes: dict[str, np.ndarray] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(SUFFIX):
            continue
        run = bisect.bisect_right(every, event["ts"]) - 1
        index = kept.get(every[run], -1) if run >= 0 else -1
        if index >= 0:
            per_run = nodes.setdefault(name.removesuffix(SUFFIX), np.zeros(len(kept)))
            per_run[index] += event["dur"]
    return Profile(graph, nodes, len(kept))
