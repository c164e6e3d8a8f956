"""Timing against a clock the test controls; subjects from real bundles and modules; no wall-clock asserts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import TensorSpec, Timing
from scconv_deploy.bench.naive import naive_export
from scconv_deploy.bench.rounds import MIN_ROUNDS, TARGET_ROUNDS, Backend, Plan, measure
from scconv_deploy.bench.statistics import ratio_interval
from scconv_deploy.bench.subjects import EAGER, NAIVE, Setting, bench_inputs, bundle_subject
from scconv_deploy.config import BenchConfig, ExportConfig, ShapeRange, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.pipeline import run_benchmark, run_export
from scconv_deploy.runtime.nvidia_driver import Gpu, probe
from scconv_deploy.stages.benchmark import compare, distinct, pick_yardstick, run

MS = 1_000_000


class FakeMachine:
    """A clock that only calls and pauses move, with a slowness that may change over time."""

    def __init__(self, slowness: Callable[[float], float] = lambda _: 1.0) -> None:
        self.now = 0
        self.order: list[str] = []
        self.slowness = slowness

    def clock(self) -> int:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)

    def backend(self, name: str, duration: Callable[[int], float], subject: str | None = None) -> Backend:
        """A backend whose n-th call takes ``duration(n)`` milliseconds on an undisturbed machine."""
        count = 0

        def call() -> None:
            nonlocal count
            self.order.append(name)
            self.now += round(duration(count) * self.slowness(self.now / 1e9) * MS)
            count += 1

        return Backend(name, subject or name, call)


class Heard(Silence):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def compared(machine: FakeMachine, backends: list[Backend], config: BenchConfig) -> list[Timing]:
    return list(compare(backends, 1, 1, config, Silence(), machine.clock, machine.pause))


def test_known_durations_are_reported_exactly() -> None:
    machine = FakeMachine()
    backends = [machine.backend("slow", lambda _: 10.0), machine.backend("fast", lambda _: 2.5)]
    slow, fast = compared(machine, backends, BenchConfig(duration_s=1.0, iterations=10))
    assert (slow.median_ms, slow.mean_ms, slow.min_ms, slow.p90_ms, slow.p99_ms) == (10.0,) * 5
    assert (slow.ratio, slow.ratio_low, slow.ratio_high) == (1.0, 1.0, 1.0)
    assert fast.median_ms == 2.5
    assert (fast.ratio, fast.ratio_low, fast.ratio_high) == (0.25, 0.25, 0.25)


def test_a_heavy_tail_shows_in_p99_and_mean_and_is_not_clipped() -> None:
    machine = FakeMachine()
    tail = machine.backend("tail", lambda n: 500.0 if n % 40 == 39 else 10.0)
    (timing,) = compared(machine, [tail], BenchConfig(duration_s=4.0, iterations=200))
    assert timing.median_ms == 10.0
    assert timing.p90_ms == 10.0
    assert timing.p99_ms == 500.0
    assert timing.mean_ms == pytest.approx(10.0 + 490.0 / 40, rel=0.25)


def test_interleaving_keeps_the_ratio_on_a_machine_that_slows_down() -> None:
    """Broken twin: the same backends one after the other see different machines and miss by far."""
    config = BenchConfig(warm_up_ms=0, duration_s=2.0, iterations=1)

    def slower(seconds: float) -> float:
        return 1.0 + 0.3 * seconds

    machine = FakeMachine(slower)
    one, two = machine.backend("one", lambda _: 4.0), machine.backend("two", lambda _: 2.0)
    _, interleaved = compared(machine, [one, two], config)
    assert interleaved.ratio == pytest.approx(0.5, rel=0.05)
    assert interleaved.ratio_low <= interleaved.ratio <= interleaved.ratio_high

    machine = FakeMachine(slower)
    first = compared(machine, [machine.backend("one", lambda _: 4.0)], config)[0]
    then = compared(machine, [machine.backend("two", lambda _: 2.0)], config)[0]
    assert abs(then.median_ms / first.median_ms - 0.5) > 0.15


def test_rounds_visit_every_backend_in_turn() -> None:
    machine = FakeMachine()
    plan = Plan(warm_up_ms=0, duration_s=0.0, iterations=1)
    samples = measure([machine.backend(n, lambda _: 1.0) for n in "ABC"], plan, Silence(), *controls(machine))
    assert "".join(machine.order[-3 * MIN_ROUNDS :]) == "ABC" * MIN_ROUNDS
    assert [len(s.rounds) for s in samples] == [MIN_ROUNDS] * 3


def test_each_backend_gets_its_duration_its_iterations_and_long_bursts() -> None:
    machine = FakeMachine()
    backends = [machine.backend("slow", lambda _: 400.0), machine.backend("fast", lambda _: 1.0)]
    plan = Plan(warm_up_ms=100, duration_s=2.0, iterations=30)
    slow, fast = measure(backends, plan, Silence(), *controls(machine))
    assert len(slow.calls) == 30
    assert fast.calls.sum() >= 2e9
    assert {len(r) for r in fast.rounds} == {2000 // TARGET_ROUNDS}
    # Warm-up is not among the timed calls: 100 calls of 1 ms for the fast one.
    assert machine.order.count("fast") == len(fast.calls) + 100


def controls(machine: FakeMachine) -> tuple[Callable[[], int], Callable[[float], None]]:
    return machine.clock, machine.pause


def test_the_interval_is_seeded_and_covers_the_truth() -> None:
    noise = np.random.default_rng(3).normal(0.8, 0.05, 40)
    assert ratio_interval(noise, seed=1) == ratio_interval(noise, seed=1)
    middle, low, high = ratio_interval(noise, seed=1)
    assert low < middle < high
    assert low < 0.8 < high
    assert high - low < 0.08


def test_the_yardstick_is_found_by_name_path_or_folder() -> None:
    backends = [Backend("a", "runs/a", int), Backend(EAGER, "m.pt", int), Backend(NAIVE, "m.pt", int)]
    assert pick_yardstick(backends, None, 1) == "a"
    assert pick_yardstick(backends, NAIVE, 1) == NAIVE
    assert pick_yardstick(backends, "m.pt", 1) == EAGER
    assert pick_yardstick(backends, "elsewhere/a", 1) == "a"
    with pytest.raises(InputError, match="naive ONNX"):
        pick_yardstick(backends, "naive ONXX", 1)


def test_the_yardstick_decides_the_ratio() -> None:
    machine = FakeMachine()
    backends = [machine.backend("slow", lambda _: 8.0), machine.backend("fast", lambda _: 2.0)]
    slow, fast = compared(machine, backends, BenchConfig(duration_s=0.2, yardstick="fast"))
    assert (slow.ratio, fast.ratio) == (4.0, 1.0)


def test_equal_names_become_distinct() -> None:
    same = [
        Backend("b", "x/b", int),
        Backend("b", "y/b", int),
        Backend("b", "y/b", int),
        Backend("c", "c", int),
    ]
    assert [b.name for b in distinct(same)] == ["b (x/b)", "b (y/b)", "b (y/b) #2", "c"]


class Summing(nn.Module):
    """Divides by Python's own sum over channels, as public SCConv code does (there over a parameter, which
    the exporter folds away after minutes; here over activations, which stay)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        attention = torch.sigmoid(y.mean((2, 3))).transpose(0, 1)
        weight = (attention / sum(attention)).transpose(0, 1)
        return y * weight[:, :, None, None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX bundle that takes batches 1 to 3."""
    out = tmp_path_factory.mktemp("bench") / "small"
    shapes = shape_ranges(minimum=["1x3x6x6"], optimum=["1x3x6x6"], maximum=["3x3x6x6"])
    torch.manual_seed(0)
    return run_export(Summing().eval(), ExportConfig("onnx", out=out, shapes=shapes), Silence()).path


QUICK = BenchConfig(warm_up_ms=0, duration_s=0.0, iterations=5, shapes=shape_ranges(["1x3x6x6"]))


def test_a_model_and_its_bundle_are_measured_side_by_side(bundle: Path) -> None:
    before = torch.get_num_threads()
    timings = run_benchmark((str(bundle), Summing()), QUICK, Silence())
    assert [t.name for t in timings] == ["small", EAGER, NAIVE]
    assert all(t.rounds >= MIN_ROUNDS and 0 < t.min_ms <= t.median_ms <= t.p99_ms for t in timings)
    assert timings[0].ratio == 1.0
    assert torch.get_num_threads() == before


def test_a_batch_the_bundle_does_not_take_is_a_note_and_no_number(bundle: Path) -> None:
    heard = Heard()
    config = BenchConfig(batches=(2, 4), threads=(1, 2), warm_up_ms=0, duration_s=0.0, iterations=5)
    timings = run_benchmark((str(bundle),), config, heard)
    assert [(t.batch, t.threads) for t in timings] == [(2, 1), (2, 2)]
    assert heard.notes == ["small is not measured at batch 4: input 'x' takes 1 to 3 on axis 0, not 4"]


@pytest.mark.skipif(isinstance(probe(), Gpu), reason="a GPU is here: this machine can run TensorRT engines")
def test_a_bundle_that_cannot_run_here_is_listed_as_not_measured(bundle: Path, tmp_path: Path) -> None:
    heard = Heard()
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    engine = tmp_path / "engine"
    shutil.copytree(bundle, engine)
    (engine / "manifest.json").write_text(
        json.dumps(manifest | {"runtime": "tensorrt-rtx"}), encoding="utf-8"
    )
    timings = run([bundle_subject(str(engine), ()), bundle_subject(str(bundle), ())], QUICK, heard)
    assert [t.name for t in timings] == ["small"]
    assert len(heard.notes) == 1
    assert heard.notes[0].startswith("engine is not measured: ")
    with pytest.raises(CapabilityError, match="nothing could be measured here: engine is not measured"):
        run([bundle_subject(str(engine), ())], QUICK, Silence())


def test_shapes_asked_for_must_fit_the_bundle(bundle: Path) -> None:
    with ExitStack() as stack:
        wide = (ShapeRange(None, (1, 3, 7, 7), (1, 3, 7, 7), (1, 3, 7, 7)),)
        opened = bundle_subject(str(bundle), wide).open(Setting(1, 1, 0), stack)
    assert not opened.backends
    assert "takes 6 on axis 2, not 7" in opened.notes[0]


def test_inputs_are_seeded_and_not_constant() -> None:
    spec = (TensorSpec("x", "float32", ("batch", 3, 6, 6), (1, 3, 6, 6), (1, 3, 6, 6), (9, 3, 6, 6)),)
    one, again, other = (bench_inputs(spec, Setting(4, 1, seed))["x"] for seed in (0, 0, 1))
    assert one.shape == (4, 3, 6, 6)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.std() > 0.5


def test_the_naive_export_is_naive(bundle: Path) -> None:
    """It unrolls the sum, which the package's own export does not, and takes every batch asked for."""
    spec = (TensorSpec("x", "float32", (1, 3, 6, 6), (1, 3, 6, 6), (1, 3, 6, 6), (1, 3, 6, 6)),)
    fixed = onnx.load_from_string(naive_export(Summing().eval(), spec, (4,), 0))
    free = onnx.load_from_string(naive_export(Summing().eval(), spec, (1, 8), 0))
    assert sum(n.op_type == "Add" for n in fixed.graph.node) >= 23
    assert sum(n.op_type == "Add" for n in onnx.load(bundle / "model.onnx").graph.node) <= 1
    assert fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert free.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_a_model_the_exporter_refuses_is_still_measured_in_pytorch() -> None:
    class Untraceable(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if float(x.sum()) > 0 else x

    heard = Heard()
    timings = run_benchmark((Untraceable(),), QUICK, heard)
    assert [t.name for t in timings] == [EAGER]
    assert "naive ONNX is not measured: the naive ONNX export fails" in heard.notes[0]
