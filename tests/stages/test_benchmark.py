"""The stage on fakes with a clock of their own and on real worker processes; no wall-clock asserts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scconv_deploy.bench.openers import NotPortableError
from scconv_deploy.bench.session import Opening
from scconv_deploy.bench.subjects import Candidate, Prepared, Setting
from scconv_deploy.bench.workers import WorkerDiedError
from scconv_deploy.bench_config import BenchConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.measurements import Measurement
from scconv_deploy.stages.benchmark import Ready, compare, distinct, pick_yardstick, run
from tests.bench_unit.fakes import FakeMachine, Script, Unpicklable


def candidate(name: str, subject: str | None = None, kind: str = "bundle") -> Candidate:
    return Candidate(name, subject or name, kind, "fake", "fp32", (), None, None)


OPENING = Opening(1.0, 2.0, 0.1)
QUICK = BenchConfig(warm_up_ms=0, duration_s=0.0, iterations=5)


def compared(
    machine: FakeMachine, named: dict[str, tuple[float, str]], config: BenchConfig
) -> dict[str, Measurement]:
    """Backends by name: milliseconds per call, and kind."""
    ready = []
    for name, (duration, kind) in named.items():
        worker = machine.worker(name, lambda _, d=duration: d)  # type: ignore[misc]
        ready.append(Ready(candidate(name, "m.pt", kind), worker, OPENING, worker.warm_up(config.warm_up_ms)))
    found, condition = compare(ready, Setting(4, 2, 0), config, Silence(), machine.pause)
    assert (condition.batch, condition.threads) == (4, 2)
    return {m.name: m for m in found}


def test_known_durations_become_figures_and_ratios_to_both() -> None:
    named = {"ours": (2.5, "ours"), "plain twin": (5.0, "plain"), "naive ONNX": (10.0, "naive")}
    found = compared(FakeMachine(), named, BenchConfig(duration_s=1.0, iterations=10))
    ours = found["ours"]
    assert (ours.median_ms, ours.mean_ms, ours.min_ms, ours.max_ms, ours.std_ms) == (2.5, 2.5, 2.5, 2.5, 0.0)
    assert ours.percentiles_ms == {"50": 2.5, "90": 2.5, "95": 2.5, "99": 2.5}
    assert ours.items_per_s == 1600.0
    assert ours.against_yardstick is not None
    assert ours.against_naive is not None
    assert (ours.against_yardstick.value, ours.against_naive.value) == (0.5, 0.25)
    assert found["plain twin"].against_yardstick is not None
    assert found["plain twin"].against_yardstick.value == 1.0
    assert (ours.load_ms, ours.first_run_ms, ours.overhead_us) == (1.0, 2.0, 0.1)
    assert ours.samples_ms is None


def test_a_heavy_tail_reaches_the_report() -> None:
    machine = FakeMachine()
    worker = machine.worker("t", lambda n: 300.0 if n % 20 == 0 else 3.0)
    ready = [Ready(candidate("t"), worker, OPENING, worker.warm_up(0))]
    config = BenchConfig(duration_s=2.0, iterations=400, percentiles=(99.0,), warm_up_ms=0)
    ((found,), _) = compare(ready, Setting(1, 1, 0), config, Silence(), machine.pause)
    assert (found.median_ms, found.percentiles_ms, found.max_ms) == (3.0, {"99": 300.0}, 300.0)


def test_the_named_yardstick_decides_the_ratio() -> None:
    named = {"a": (8.0, "bundle"), "b": (2.0, "bundle"), "plain twin": (4.0, "plain")}
    for wanted, expected in ((None, 2.0), ("b", 4.0), ("a", 1.0)):
        ratio = compared(FakeMachine(), named, replace(QUICK, yardstick=wanted))["a"].against_yardstick
        assert ratio is not None
        assert ratio.value == expected


def test_without_a_naive_export_there_is_no_ratio_to_it() -> None:
    assert compared(FakeMachine(), {"a": (1.0, "bundle")}, QUICK)["a"].against_naive is None


def test_raw_samples_are_kept_round_by_round() -> None:
    found = compared(FakeMachine(), {"a": (1.5, "bundle")}, replace(QUICK, raw=True))["a"]
    assert found.samples_ms is not None
    assert len(found.samples_ms) == found.rounds
    assert {ms for one in found.samples_ms for ms in one} == {1.5}


def test_the_yardstick_is_found_by_name_kind_path_or_folder() -> None:
    named = [
        candidate("a", "runs/a"),
        candidate("eager", "m.pt", "eager"),
        candidate("naive ONNX", "m.pt", "naive"),
    ]
    assert pick_yardstick(named, None) == "a"
    assert pick_yardstick([*named, candidate("twin", "m.pt", "plain")], None) == "twin"
    assert pick_yardstick(named, "naive ONNX") == "naive ONNX"
    assert pick_yardstick(named, "naive") == "naive ONNX"
    assert pick_yardstick(named, "m.pt") == "eager"
    assert pick_yardstick(named, "elsewhere/a") == "a"
    with pytest.raises(InputError, match="did you mean 'naive ONNX'"):
        pick_yardstick(named, "naive ONXX")


def test_equal_names_become_distinct() -> None:
    same = [candidate("b", "x/b"), candidate("b", "y/b"), candidate("b", "y/b"), candidate("c", "c")]
    assert [c.name for c in distinct(same)] == ["b (x/b)", "b (y/b)", "b (y/b) #2", "c"]


def prepared(*candidates: Candidate, notes: tuple[str, ...] = ()) -> list[Prepared]:
    return [Prepared("subject", candidates, notes)]


def script(name: str, opener: object, **changes: object) -> Candidate:
    return replace(candidate(name), opener=opener, **changes)  # type: ignore[arg-type]


def test_backends_run_in_processes_and_what_cannot_is_a_sentence(tmp_path: Path) -> None:
    here = [
        script("well", Script()),
        script("not here", Script(refuse=True)),
        script("dies", Script(die_at=2)),
    ]
    config = replace(QUICK, threads=(1, 2))
    found = run(prepared(*here, notes=("x is not measured: y",)), config, tmp_path, Silence())
    assert [(m.name, m.threads) for m in found.measurements] == [("well", 1), ("well", 2)]
    assert all(m.own_process and m.memory is not None and m.memory.base_bytes > 0 for m in found.measurements)
    assert found.not_measured[0] == "x is not measured: y"
    assert (
        found.not_measured[1] == "not here is not measured at batch 1, 1 thread: this fake has no device here"
    )
    assert (
        "dies is not measured at batch 1, 1 thread: the process of dies died while warming up"
        in (found.not_measured[2])
    )
    assert len(found.not_measured) == 5
    assert [c.yardstick for c in found.conditions] == ["well", "well"]


def test_a_worker_that_dies_between_rounds_ends_the_run(tmp_path: Path) -> None:
    # Opening and warming up take a dozen calls; 5 ms of lead-in, as short as these are, take thousands.
    with pytest.raises(WorkerDiedError, match="the process of b died while being timed"):
        run(prepared(script("a", Script()), script("b", Script(die_at=2000))), QUICK, tmp_path, Silence())


def test_what_cannot_travel_is_measured_here(tmp_path: Path) -> None:
    travels = script("module", Unpicklable(), local=Script())
    (found,) = run(prepared(travels), QUICK, tmp_path, Silence()).measurements
    assert not found.own_process
    assert found.memory is None


def test_what_the_user_insisted_on_is_an_error_and_no_gap(tmp_path: Path) -> None:
    """A provider that fell back: the number would be of something else."""
    insisted = script("cuda", Script(refuse=True), optional=False)
    with pytest.raises(CapabilityError, match=r"^this fake has no device here$"):
        run(prepared(script("a", Script()), insisted), QUICK, tmp_path, Silence())


def test_nothing_to_measure_is_an_error_with_all_reasons(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r"nothing could be measured here: .*no device here"):
        run(prepared(script("a", Script(refuse=True))), QUICK, tmp_path, Silence())


def test_a_wrong_yardstick_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the yardstick 'z' is none of what is measured"):
        run(prepared(script("a", Script())), replace(QUICK, yardstick="z"), tmp_path, Silence())
    assert list(tmp_path.iterdir()) == []


def test_not_portable_is_an_input_error() -> None:
    assert issubclass(NotPortableError, InputError)
