"""Rewrite the recorded surfaces: ``python -m tests.exporters.bindings.record``. Review the difference like code."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.exporters.bindings import wheels
from tests.exporters.bindings.contract import GOLDEN, RTX, merged
from tests.exporters.bindings.stub import compile_stub


def main() -> None:
    """Install every version's bindings, and write what each offers."""
    surfaces = {}
    with TemporaryDirectory() as name:
        stub = compile_stub(Path(name))
        for number in wheels.VERSIONS:
            folder = Path(name) / number
            obstacle = wheels.install(number, folder)
            if obstacle:
                raise SystemExit(obstacle)
            surfaces[f"tensorrt {number}"] = wheels.surface_of(folder, stub)
    surfaces[f"{RTX} {version(RTX)}"] = wheels.surface_of_rtx()
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(merged(surfaces), encoding="utf-8")


if __name__ == "__main__":
    main()
