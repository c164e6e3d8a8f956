"""Every malicious or broken model file that the tests know, written to disk."""

from __future__ import annotations

import warnings
from pathlib import Path

# Imported for what they register.
from tests.checkpoint import hostile_archives, hostile_pickles  # noqa: F401
from tests.checkpoint.assembly import EXECUTABLE, KINDS

__all__ = ["EXECUTABLE", "KINDS", "write_all"]


def write_all(folder: Path, witness: Path) -> dict[str, Path]:
    """Every file of :data:`KINDS`, each in a folder of its own."""
    paths = {}
    for number, (name, writer) in enumerate(KINDS.items()):
        place = folder / f"{number:02d}"
        place.mkdir()
        paths[name] = place / "model.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            writer(paths[name], witness)
    return paths
