"""This machine, its versions and the date -> the head that every benchmark's JSON carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import psutil

from scconv_deploy.artifacts import Json
from scconv_deploy.bench.machine import this_machine, versions
from scconv_deploy.report.to_json import to_json

SCHEMA_VERSION = 2
RESULTS = Path(__file__).parent / "results"


def load_average() -> list[Json]:
    """Over 1, 5 and 15 minutes; above the number of cores means that others disturbed the run."""
    return [round(value, 2) for value in psutil.getloadavg()]


def write_results(name: str, content: Mapping[str, Json]) -> Path:
    """Write ``results/<name>.json`` with schema, date, machine and versions in front."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    head: dict[str, Json] = {
        "schema_version": SCHEMA_VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": to_json(this_machine()),
        "versions": to_json(versions()),
    }
    path.write_text(json.dumps(head | dict(content), indent=2) + "\n", encoding="utf-8")
    return path
