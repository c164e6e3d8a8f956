"""Reports -> one line each in ``results/history.jsonl``, and what changed since the last one like it.

A line is a few hundred bytes: machine fingerprint, commit, and per measurement the median and both ratios with
their intervals. Lines of one network and one machine compare; ratios compare across machines too.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from scconv_deploy.artifacts import Json
from scconv_deploy.measurements import BenchReport, Estimate, Measurement

SCHEMA_VERSION = 1
ROOT = Path(__file__).parents[2]


def record(network: str, report: BenchReport, commit: str | None) -> dict[str, Json]:
    """A report as one compact line."""
    return {
        "schema_version": SCHEMA_VERSION,
        "network": network,
        "date": report.date,
        "commit": commit,
        "fingerprint": report.machine.fingerprint,
        "cpu": report.machine.cpu,
        "cores": report.machine.cores,
        "versions": {k: v for k, v in report.versions.items() if v is not None},
        "quiet": not any(c.noise.warnings for c in report.conditions),
        "results": {_key(m): _figures(m) for m in report.measurements},
    }


def append(file: Path, line: dict[str, Json]) -> None:
    """Add one line; nothing that is there is ever changed."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def last_like(file: Path, line: dict[str, Json]) -> dict[str, Json] | None:
    """The newest stored line of the same network on the same machine."""
    if not file.exists():
        return None
    wanted = (line["network"], line["fingerprint"], line["schema_version"])
    lines = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines() if text.strip()]
    alike = [x for x in lines if (x["network"], x["fingerprint"], x["schema_version"]) == wanted]
    return alike[-1] if alike else None


def changes(before: dict[str, Json], now: dict[str, Json]) -> list[str]:
    """One sentence per measurement that both have: its ratio to the yardstick, then and now."""
    old, new = before["results"], now["results"]
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    sentences = []
    for key in new.keys() & old.keys():
        one, two = old[key], new[key]
        assert isinstance(one, dict)
        assert isinstance(two, dict)
        was, is_now = one["ratio"], two["ratio"]
        if isinstance(was, list) and isinstance(is_now, list) and was != [1.0, 1.0, 1.0]:
            apart = _number(is_now[1]) > _number(was[2]) or _number(is_now[2]) < _number(was[1])
            change = _number(is_now[0]) / _number(was[0]) - 1
            sentences.append(
                f"{key}: ratio {_number(was[0]):.3f} -> {_number(is_now[0]):.3f} ({change:+.1%}"
                f"{', outside the intervals' if apart else ''}) since {before['commit'] or before['date']}"
            )
    return sorted(sentences)


def commit(folder: Path = ROOT) -> str | None:
    """Short hash of HEAD, with ``+`` where the tree has changes; None outside git."""
    try:
        head = _git(folder, "rev-parse", "--short", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _key(measurement: Measurement) -> str:
    return f"{measurement.name}, batch {measurement.batch}, threads {measurement.threads}"


def _figures(measurement: Measurement) -> dict[str, Json]:
    return {
        "median_ms": round(measurement.median_ms, 5),
        "p99_ms": round(measurement.percentiles_ms.get("99", measurement.max_ms), 5),
        "ratio": _rounded(measurement.against_yardstick),
        "naive": _rounded(measurement.against_naive),
    }


def _rounded(estimate: Estimate | None) -> Json:
    return None if estimate is None else [round(v, 4) for v in (estimate.value, estimate.low, estimate.high)]


def _number(value: Json) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
