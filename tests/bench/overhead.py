"""What a call of an open engine costs above the bare backend: microseconds, in ONNX Runtime and OpenVINO.

The model is as small as a model can be (``y = 2 x`` over 1x3x8x8 and a mean), so that nearly all of a call is what
surrounds it; what is added does not grow with the model. The ways of calling take turns in one process:

* ``bare``: the backend as its own manual calls it, on arrays of the right type (``session.run(None, feed)``; an
  OpenVINO infer request with its input set, its outputs copied out, since the next call writes over them);
* ``runner``: our runner of that backend; ``run``: ``engine.run({name: array})``, names, types and sizes checked;
  ``call``: ``engine(array)``; ``into``: ``engine.run(inputs, into)`` with the caller's own arrays.

``above_bare_us`` is the median over rounds of the difference to ``bare`` in the same round, with its 95 % bootstrap
interval. The project promises at most 15 microseconds.

    python -m tests.bench.overhead [--rounds 80]

Some ten seconds. Writes ``results/overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
import openvino as ov

import scconv_deploy
from scconv_deploy.artifacts import Json
from scconv_deploy.bench.statistics import median_interval
from scconv_deploy.bench.stopwatch import Clock, lead_in
from scconv_deploy.measurements import Estimate
from scconv_deploy.runtime.engine import Engine
from scconv_deploy.runtime.openvino_core import process_core
from tests.bench import history
from tests.bench.machine import load_average, write_results
from tests.runtime.bundles import read, write_bundle, write_manifest

Call = Callable[[], object]
LIMIT_US = 15.0
BARE = "bare"
CALLS = 200
"""Calls of a turn; its time is the mean of them, since the clock costs as much as the smallest of these figures."""
SEED = 0
WARM_UP = 500


def turns(
    calls: Mapping[str, Call], rounds: int, count: int, clock: Clock = time.perf_counter_ns
) -> np.ndarray:
    """Microseconds per call, (rounds, len(calls)): every round gives each one turn of ``count`` calls."""
    taken = np.empty((rounds, len(calls)))
    for index in range(rounds):
        for column, call in enumerate(calls.values()):
            lead_in(call, clock)
            start = clock()
            for _ in range(count):
                call()
            taken[index, column] = (clock() - start) / count / 1000
    return taken


def above(taken: np.ndarray, names: list[str], bare: str) -> dict[str, Estimate]:
    """Name -> median over rounds of its time less ``bare``'s in the same round, microseconds."""
    base = taken[:, names.index(bare)]
    found = {}
    for column, name in enumerate(names):
        if name != bare:
            difference = taken[:, column] - base
            low, high = median_interval(difference, SEED)
            found[name] = Estimate(float(np.median(difference)), low, high)
    return found


def openvino_bundle(folder: Path) -> Path:
    """The same small model as OpenVINO IR, in a bundle."""
    path = write_bundle(folder)
    ov.save_model(ov.Core().read_model(path / "model.onnx"), path / "model.xml", compress_to_fp16=False)
    (path / "model.onnx").unlink()
    manifest = {**read(path), "artifact": "model.xml", "runtime": "openvino"}
    write_manifest(path, manifest, ("model.xml", "model.bin", "samples.npz"))
    return path


def bare_onnx(model: Path, x: np.ndarray) -> Call:
    """``session.run`` on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feed = {"x": x}
    return lambda: session.run(None, feed)


def bare_openvino(model: Path, x: np.ndarray) -> Call:
    """An infer request of the model compiled for this shape, on one thread, as our runner compiles it."""
    core = process_core()
    read_in = core.read_model(model)
    read_in.reshape({"x": list(x.shape)})
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(read_in, "CPU", settings).create_infer_request()

    def call() -> object:
        request.set_input_tensor(0, ov.Tensor(x, shared_memory=True))
        request.infer()
        return [np.array(request.get_output_tensor(i).data) for i in range(2)]

    return call


def ways(engine: Engine, bare: Call, x: np.ndarray) -> dict[str, Call]:
    """All ways of calling, the bare one first."""
    feed = {"x": x}
    into = {"y": np.empty_like(x), "z": np.empty(x.shape[:2], x.dtype)}
    runner = engine._living()  # what an engine adds to its runner is a figure of its own
    return {
        BARE: bare,
        "runner": lambda: runner.run(feed),
        "run": lambda: engine.run(feed),
        "call": lambda: engine(x),
        "into": lambda: engine.run(feed, into),
    }


def measure(engine: Engine, bare: Call, rounds: int) -> dict[str, Json]:
    """One backend's figures."""
    x = np.ones((1, 3, 8, 8), np.float32)
    calls = ways(engine, bare, x)
    turns(calls, 1, WARM_UP)
    names = list(calls)
    taken = turns(calls, rounds, CALLS)
    return {
        "bare_us": round(float(np.median(taken[:, 0])), 2),
        "above_bare_us": {
            name: [round(v, 2) for v in (e.value, e.low, e.high)]
            for name, e in above(taken, names, BARE).items()
        },
    }


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=80, help=f"rounds of {CALLS} calls of every way")
    options = parser.parse_args()
    before = load_average()
    x = np.ones((1, 3, 8, 8), np.float32)
    found: dict[str, Json] = {}
    with tempfile.TemporaryDirectory() as work:
        onnx_path, ir_path = write_bundle(Path(work) / "onnx"), openvino_bundle(Path(work) / "openvino")
        with scconv_deploy.open(onnx_path, threads=1) as engine:
            found["onnxruntime"] = measure(engine, bare_onnx(onnx_path / "model.onnx", x), options.rounds)
        with scconv_deploy.open(ir_path, threads=1) as engine:
            found["openvino"] = measure(engine, bare_openvino(ir_path / "model.xml", x), options.rounds)
    path = write_results(
        "overhead",
        {
            "what": "microseconds that our runtime adds to a call of the bare backend, on one thread: median over "
            f"interleaved rounds and its 95 % bootstrap interval; at most {LIMIT_US:g} are promised",
            "commit": history.commit(),
            "load_average_before": before,
            "load_average_after": load_average(),
            "limit_us": LIMIT_US,
            "results": found,
        },
    )
    print(json.dumps(found, indent=2))
    print(path)


if __name__ == "__main__":
    main()
