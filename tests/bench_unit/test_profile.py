"""ONNX Runtime's trace, made by hand and made by ONNX Runtime; no time is asserted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scconv_deploy.bench.block_graphs import block_graph, plain_graph
from scconv_deploy.bench.profile import (
    BURST,
    MIN_RUNS,
    Profile,
    _given,
    corrected,
    profile_in_turns,
    profiler_us,
    read_profile,
    recorded,
)
from scconv_deploy.config import Form
from scconv_deploy.errors import InputError
from tests.bench_unit.profiles import graph


def node(name: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur}


def trace(runs: int) -> list[dict[str, Any]]:
    """Warm-up runs, then one turn after another; node a takes 10 + the run's number."""
    events: list[dict[str, Any]] = []
    for run in range(runs):
        start = 1000 * run
        events += [node("a", start + 10, 10 + run), node("b", start + 50, 3), node("b", start + 60, 4)]
        # ONNX Runtime writes a run's own event after those of its nodes, with its start's time.
        events.append({"cat": "Session", "name": "model_run", "ts": start, "dur": 900})
    return events


def test_warm_up_and_each_turns_first_run_do_not_count() -> None:
    runs = 2 * BURST
    warm = 3
    profile = read_profile(trace(warm + 2 * (1 + BURST)), graph([]), runs)
    kept = [warm + 1 + i for i in range(BURST)] + [warm + BURST + 2 + i for i in range(BURST)]
    assert profile.runs == runs
    assert profile.nodes["a"].tolist() == [10 + k for k in kept]
    assert profile.nodes["b"].tolist() == [7] * runs, "a node that runs twice counts with its sum"


def test_recorded_counts_from_the_end() -> None:
    assert recorded(range(20), BURST) == list(range(20 - BURST, 20))


def test_the_profilers_own_time_comes_off_and_nothing_becomes_negative() -> None:
    profile = Profile(graph([]), {"a": np.array([5.0, 1.0])}, 2)
    found = corrected(profile, 2.0)
    assert found.nodes["a"].tolist() == [3.0, 0.0]
    assert found.profiler_us == 2.0


def test_what_the_profiler_adds_is_a_sane_number(tmp_path: Path) -> None:
    assert 0.0 <= profiler_us(tmp_path, operators=20, runs=5) < 1000.0


def test_inputs_go_by_name_and_where_a_file_calls_them_otherwise_by_position() -> None:
    one, two = np.zeros(1), np.ones(1)
    assert _given(("b",), {"a": one, "b": two}) == {"b": two}
    assert _given(("x", "y"), {"a": one, "b": two}) == {"x": one, "y": two}
    with pytest.raises(InputError):
        _given(("x",), {"a": one, "b": two})


def test_two_real_models_in_turns(tmp_path: Path) -> None:
    shape = (1, 16, 8, 8)
    files = []
    for name, model in (
        ("block", block_graph("F3", Form.STANDARD, shape, 0)),
        ("plain", plain_graph(shape, 0)),
    ):
        files.append(tmp_path / f"{name}.onnx")
        files[-1].write_bytes(model.SerializeToString())
    arrays = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32), "unread": np.ones(1)}
    ticks = itertools.count()

    found = profile_in_turns(
        [(f, arrays) for f in files], 1, tmp_path, 0.0, 0.0, lambda: float(next(ticks)), lambda _: None
    )

    for profile in found:
        assert profile.runs == MIN_RUNS
        names = {n.name for n in profile.graph.graph.node}
        assert set(profile.nodes) <= names
        assert all(us.shape == (MIN_RUNS,) and (us >= 0).all() for us in profile.nodes.values())
    assert len(found[0].nodes) > len(found[1].nodes) >= 1
