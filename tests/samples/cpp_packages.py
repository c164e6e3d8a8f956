"""Packages of public registries -> headers and libraries in a folder, for the C++ samples. Nothing is installed.

No Python package carries the headers of ONNX Runtime, and Debian carries no TensorRT. So those of ONNX Runtime come
out of Debian's package, those of TensorRT and CUDA out of wheels. The registries are those that apt and pip of this
machine are set up for; where they cannot be had, a test that needs them is skipped with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

SUITE = "trixie"
"""The first release of Debian that has ``libonnxruntime-dev``; only its headers are taken, on any release."""
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FLAGS = "-Wall -Wextra -Wconversion -Werror -O1"
LONGEST = 300


def run(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """A command, its output kept; ``environment`` replaces this process's where it is given."""
    return subprocess.run(
        command, env=environment or None, capture_output=True, text=True, check=False, timeout=LONGEST
    )


def needed(done: subprocess.CompletedProcess[str], what: str) -> str:
    """The output of a command that a registry may refuse; skips where it does."""
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason was given"]
        pytest.skip(f"{what} cannot be had here: {lines[-1]}")
    return done.stdout


def debian(folder: Path, *names: str) -> Path:
    """``usr`` of Debian packages, unpacked below ``folder``."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    if release.get("ID") != "debian" or not KEYS.is_file():
        pytest.skip(f"{' and '.join(names)} are unpacked on Debian only")
    listed = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Identifier: Packages"]
    ).stdout
    code = release["VERSION_CODENAME"]
    mirrors = [uri for uri, suite in (line.split() for line in listed.splitlines() if line) if suite == code]
    if not mirrors:
        pytest.skip("apt has no Debian mirror here")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "sources").write_text(f"deb [signed-by={KEYS}] {mirrors[0]} {SUITE} main\n")
    apt = [
        "apt-get",
        *("-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}"),
        *("-o", f"Dir::Etc::SourceList={folder / 'sources'}", "-o", "Dir::Etc::SourceParts=/dev/null"),
    ]
    needed(run([*apt, "update"]), f"Debian's list of packages ({SUITE})")
    for name in names:
        printed = needed(run([*apt, "download", "--print-uris", name]), name)
        file = folder / printed.split()[1]
        needed(subprocess.run([*apt, "download", name], cwd=folder, capture_output=True, text=True), name)
        needed(run(["dpkg", "-x", file, folder / "root"]), name)
    return folder / "root" / "usr"


def wheel(folder: Path, requirement: str) -> Path:
    """The contents of a wheel, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    needed(run([*command, "--dest", folder, requirement]), requirement)
    (file,) = folder.glob(f"{requirement.split('=')[0].replace('-', '_')}-*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / file.stem)
    return folder / file.stem


def onnxruntime_library(folder: Path) -> Path:
    """The library of the installed onnxruntime under the names that a linker looks for."""
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    found = next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"), None)
    if found is None:
        pytest.skip("the installed onnxruntime has no shared library of its own")
    folder.mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(found)
    return folder / "libonnxruntime.so"


def cmake(folder: Path) -> str:
    """CMake: this machine's, or its wheel in an environment of its own."""
    here = shutil.which("cmake")
    if here is not None:
        return here
    venv.create(folder / "cmake", with_pip=True)
    needed(run([folder / "cmake" / "bin" / "pip", "install", "-q", "cmake"]), "cmake")
    return str(folder / "cmake" / "bin" / "cmake")


def require_compiler() -> None:
    """Skip without a compiler and the two libraries that every Linux distribution has."""
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    for header, package in (("zlib.h", "zlib1g-dev"), ("openssl/evp.h", "libssl-dev")):
        done = run(["c++", "-E", "-x", "c++", "-include", header, "/dev/null"])
        if done.returncode:
            pytest.skip(f"needs {header} ({package})")


def built(sample: Path, folder: Path, *settings: str) -> Path:
    """A sample, configured and compiled with every warning an error; its program."""
    program = cmake(folder)
    configured = run([program, "-S", sample, "-B", folder / "build", f"-DCMAKE_CXX_FLAGS={FLAGS}", *settings])
    assert configured.returncode == 0, configured.stderr
    compiled = run([program, "--build", folder / "build", "--parallel", "2"])
    assert compiled.returncode == 0, compiled.stdout[-3000:] + compiled.stderr[-3000:]
    return folder / "build" / "run_bundle"
