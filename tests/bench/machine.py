"""This machine and the installed versions -> the facts a benchmark's JSON must carry to be comparable."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from scconv_deploy.artifacts import Json

SCHEMA_VERSION = 1
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("scconv-deploy", "torch", "onnx", "onnxscript", "onnx-ir", "onnxsim", "onnxruntime", "numpy")


def fingerprint() -> dict[str, Json]:
    """CPU, cores, memory and versions: equal fingerprints may be compared."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def load_average() -> list[Json]:
    """Over 1, 5 and 15 minutes; above the number of cores means that others disturbed the run."""
    return [round(value, 2) for value in psutil.getloadavg()]


def write_results(name: str, content: Mapping[str, Json]) -> Path:
    """Write ``results/<name>.json`` with schema, date and machine in front."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    head: dict[str, Json] = {
        "schema_version": SCHEMA_VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": fingerprint(),
    }
    path.write_text(json.dumps(head | dict(content), indent=2) + "\n", encoding="utf-8")
    return path


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
