"""Version -> its bindings wheel from the package index, installed alone into a folder of the tests.

Nothing but the wheel (``--no-deps``): no CUDA, no TensorRT libraries.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.exporters.bindings.stub import run_in

SURFACE = Path(__file__).with_name("surface.py")
VERSIONS = ("10.0.1", "10.9.0.34", "10.13.3.9", "10.16.1.11", "11.0.0.114", "11.4.0.106")
"""10.9 is the first with ahead-of-time plugins, and the floor of the extra ``trt``."""

CUDA13 = ("10.13.3.9", "10.16.1.11", "11.4.0.106")
"""Versions looked at for CUDA 13 too; their bindings must offer the same."""


def install(version: str, folder: Path, cuda: int = 12) -> str | None:
    """Install one bindings wheel into ``folder``; None, or why it cannot be had here."""
    package = f"tensorrt-cu{cuda}-bindings=={version}"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
         "--disable-pip-version-check", "--only-binary", ":all:", "--target", str(folder), package],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        return f"pip cannot install {package} here: {said}"
    return None


def surface_of(bindings: Path, stub: Path) -> list[str]:
    """The surface of installed bindings."""
    code = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    with TemporaryDirectory() as folder:
        file = Path(folder) / "surface.txt"
        done = run_in(bindings, stub, code, str(SURFACE), "tensorrt", str(file))
        assert not done.returncode, done.stderr
        return file.read_text(encoding="utf-8").splitlines()


def surface_of_rtx() -> list[str]:
    """The surface of the installed ``tensorrt_rtx``."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "surface.txt"
        command = [sys.executable, str(SURFACE), "tensorrt_rtx", str(file)]
        subprocess.run(command, capture_output=True, text=True, check=True)
        return file.read_text(encoding="utf-8").splitlines()
