"""``setup.py``: the library is built where there is a compiler, and is only missing where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(folder: Path, compiler: str | None) -> subprocess.CompletedProcess[str]:
    """What an installation runs, on a copy of the sources."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    sources = folder / "scconv_deploy" / "kernels"
    shutil.copytree(ROOT / "scconv_deploy" / "kernels", sources, ignore=shutil.ignore_patterns("*.so"))
    env = dict(os.environ)
    if compiler is not None:
        env |= {"CC": compiler, "CXX": compiler}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def library(folder: Path) -> Path:
    return folder / "scconv_deploy" / "kernels" / "libscconv_ort.so"


def test_without_a_compiler_the_installation_succeeds(tmp_path: Path) -> None:
    done = build(tmp_path, "/no/such/compiler")
    assert done.returncode == 0, done.stderr
    assert not library(tmp_path).exists()
    assert "libscconv_ort" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
def test_with_a_compiler_there_is_a_library_without_warnings(tmp_path: Path) -> None:
    done = build(tmp_path, None)
    assert done.returncode == 0, done.stderr
    assert library(tmp_path).is_file()
    assert "warning:" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="no compiler for aarch64 here")
def test_the_plain_build_compiles_for_aarch64(tmp_path: Path) -> None:
    sources = ROOT / "scconv_deploy" / "kernels" / "src"
    for name in sorted(path.stem for path in sources.glob("*.cpp")):
        command = ["aarch64-linux-gnu-g++", "-std=c++17", "-O2", "-DSCCONV_BUILD=plain", "-c"]
        subprocess.run([*command, str(sources / f"{name}.cpp"), "-o", str(tmp_path / name)], check=True)
