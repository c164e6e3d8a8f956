"""The fused kernels as an OpenVINO extension: compiled here on demand, for the OpenVINO that is installed.

OpenVINO promises no binary interface between versions, so the library is not shipped: its sources are, the wheel
of OpenVINO brings headers and libraries, and a C++ compiler makes it in ten to forty seconds, once. It lies in the
user's cache folder under a name made of everything that it depends on: OpenVINO's version, the sources, the
compiler and this CPU. Several processes may compile at once; each puts a whole file in place. A library that
others could have written there is not loaded.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from scconv_deploy import user_cache
from scconv_deploy.errors import CapabilityError, first_line

LOG = logging.getLogger("scconv_deploy.kernels")
FOLDER = Path(__file__).parent
SOURCES = ("channels_last.cpp", "whole_block.cpp", "extension.cpp")
COMPILERS = ("g++", "clang++", "c++")
FLAGS = (
    "-std=c++17",
    "-O3",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-w",  # warnings are the business of the tests, not of who exports a model
)
DOMAIN_MARK = b'version="scconv"'
"""How an IR's XML names our operators' set."""
_LOCK = threading.Lock()
FOLDER_NAME = "openvino"
_UNKEPT: dict[str, tempfile.TemporaryDirectory[str]] = {}


def library() -> Path:
    """The compiled extension; compiled now where it is not in the cache, which is said in the log.

    Raises:
        CapabilityError: no OpenVINO, no compiler, no headers for TBB, or the compiler refuses.
    """
    root, release = _openvino()
    compiler = find_compiler()
    if compiler is None:
        raise CapabilityError(
            "the fused kernels for OpenVINO are compiled where they run, and there is no C++ compiler here: install "
            "one (apt-get install g++), or export without --form plugin"
        )
    name = f"libscconv_openvino_{_key(release, compiler)}.so"
    with _LOCK:
        return _kept(root, compiler, name) or _for_this_process(root, compiler, name)


def _kept(root: Path, compiler: str, name: str) -> Path | None:
    """The library in the user's cache folder; None where that folder cannot be written or is not the user's alone."""
    try:
        path = user_cache.folder(FOLDER_NAME) / name
        if user_cache.is_own(path):
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user_cache.only_mine(path.parent.lstat(), stat.S_ISDIR):
            _compile(root, compiler, path)
            return path
        reason = f"others may write to {path.parent}"
    except (OSError, RuntimeError) as error:
        reason = first_line(error)
    LOG.warning("the fused kernels for OpenVINO cannot be kept (%s): each process compiles its own", reason)
    return None


def _for_this_process(root: Path, compiler: str, name: str) -> Path:
    """The library in a folder that goes when this process ends."""
    if name not in _UNKEPT:
        _UNKEPT[name] = tempfile.TemporaryDirectory(prefix="scconv-openvino-")
    path = Path(_UNKEPT[name].name) / name
    if not path.is_file():
        _compile(root, compiler, path)
    return path


def holds_fused_nodes(xml: Path) -> bool:
    """Whether an IR holds operators of the extension. A file that cannot be read holds none."""
    try:
        return DOMAIN_MARK in xml.read_bytes()
    except OSError:
        return False


def find_compiler() -> str | None:
    """Path of a C++ compiler: ``CXX``, else the first of :data:`COMPILERS` on the path."""
    named = os.environ.get("CXX")
    return next((p for p in map(shutil.which, [named] if named else COMPILERS) if p), None)


def _openvino() -> tuple[Path, str]:
    spec = find_spec("openvino")
    try:
        release = version("openvino")
    except PackageNotFoundError:
        release = ""
    if spec is None or spec.origin is None or not release:
        raise CapabilityError('OpenVINO is not installed: pip install "scconv-deploy[openvino]"')
    return Path(spec.origin).parent, release


def _key(release: str, compiler: str) -> str:
    """Everything that the library's bytes depend on; the CPU too, for whose instructions it is compiled."""
    digest = hashlib.sha256(f"{release}\0{' '.join(FLAGS)}\0{platform.machine()}\0".encode())
    for folder in ("openvino", "src"):
        for path in sorted((FOLDER / folder).glob("*")):
            if path.suffix in (".h", ".cpp"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout)
    digest.update(_cpu().encode())
    return digest.hexdigest()[:24]


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return " ".join(sorted(flags[1].split())) if flags else platform.processor()


def _compile(root: Path, compiler: str, path: Path) -> None:
    LOG.warning(
        "compiling the fused kernels for OpenVINO with %s, once: ten to forty seconds", Path(compiler).name
    )
    libraries = [_library(root, "openvino"), _library(root, "tbb")]
    headers = [f"-isystem{folder}" for folder in (root / "include", *_tbb_headers(root))]
    with tempfile.TemporaryDirectory(prefix="scconv-openvino-") as work:
        made = Path(work) / "made.so"
        sources = [str(FOLDER / "openvino" / name) for name in SOURCES]
        command = [compiler, *FLAGS, "-shared", f"-I{FOLDER / 'src'}", f"-I{FOLDER / 'openvino'}", *headers]
        _run([*command, "-march=native", *sources, *map(str, libraries), "-o", str(made)])
        # On the same file system as its place, so that the last step is one.
        handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            shutil.copyfile(made, beside)
            Path(beside).chmod(0o700)
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise


def _library(root: Path, name: str) -> Path:
    found = sorted((root / "libs").glob(f"lib{name}.so.*"))
    if not found:
        raise CapabilityError(
            f"the installed OpenVINO has no lib{name} that an extension could be linked with"
        )
    return found[0]


def _tbb_headers(root: Path) -> list[Path]:
    """OpenVINO's own wheel holds them since 2026; before, the package tbb-devel does."""
    folders = [root / "include", Path(sys.prefix) / "include"]
    found = [folder for folder in folders if (folder / "tbb" / "parallel_for.h").is_file()]
    if not found:
        raise CapabilityError(
            "the fused kernels for OpenVINO need TBB's headers, which are not here: pip install tbb-devel"
        )
    return [found[0]]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise CapabilityError(
            f"{Path(command[0]).name} cannot compile the fused kernels for OpenVINO ({told.strip()}); use another "
            "compiler by the environment variable CXX, or export without --form plugin"
        )
