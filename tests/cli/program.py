"""The command line as a user runs it: a subprocess, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what changes colour or width."""
    dropped = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONIOENCODING": "utf-8", **(extra or {})}


def scconv(
    *arguments: str, folder: Path, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m scconv_deploy ARGUMENTS`` in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "scconv_deploy", *arguments],
        cwd=folder,
        env=environment(extra),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
