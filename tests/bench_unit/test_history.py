"""Lines of the stored history: written once, compared with their like only."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.history import append, changes, commit, last_like, record
from tests.bench_unit.reports import BUSY, pair, report


def test_a_line_is_compact_and_complete() -> None:
    line = record("net", report(*pair(), noise=BUSY), "abc1234")
    assert len(json.dumps(line)) < 1500
    assert (line["network"], line["commit"], line["quiet"]) == ("net", "abc1234", False)
    assert line["versions"] == {"torch": "2.13.0"}
    results = line["results"]
    assert isinstance(results, dict)
    assert results["ours, batch 8, threads 1"] == {
        "median_ms": 40.0,
        "p99_ms": 80.0,
        "ratio": [0.8, 0.792, 0.808],
        "naive": [0.5714, 0.5674, 0.5755],
    }


def test_like_is_compared_with_like(tmp_path: Path) -> None:
    file = tmp_path / "results" / "history.jsonl"
    now = record("net", report(*pair(ratio=0.9)), "new")
    assert last_like(file, now) is None
    append(file, record("net", report(*pair(ratio=0.7)), "oldest"))
    append(file, record("net", report(*pair()), "old"))
    append(file, record("net", report(*pair(), cpu="Other"), "elsewhere"))
    append(file, record("other net", report(*pair()), "another"))
    before = last_like(file, now)
    assert before is not None
    assert before["commit"] == "old"
    assert changes(before, now) == [
        "ours, batch 8, threads 1: ratio 0.800 -> 0.900 (+12.5%, outside the intervals) since old"
    ]
    assert changes(before, record("net", report(*pair(ratio=0.805)), "new")) == [
        "ours, batch 8, threads 1: ratio 0.800 -> 0.805 (+0.6%) since old"
    ]
    assert len(file.read_text().splitlines()) == 4


def test_outside_git_there_is_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
