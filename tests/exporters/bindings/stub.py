"""Nine C symbols compiled into stand-in libraries -> the real TensorRT bindings, importable without TensorRT.

The ``tensorrt-cu12-bindings`` and ``tensorrt-cu13-bindings`` wheels (1.3 MB) link to libnvinfer, its plugins
and the parser, and need nothing of them to be imported: every class, enum and signature is in the wheel. Each
factory of the stand-in answers null, so ``Builder(...)`` and ``Runtime(...)`` raise TypeError as they do on a
machine where TensorRT cannot start.

For others: :func:`compile_stub` once, then :func:`run_in` with code that says ``import tensorrt``;
``RecordingRegistry`` of :mod:`tests.exporters.bindings.registry` stands in for the plugin registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SONAMES = tuple(
    f"{name}.so.{major}"
    for name in ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
    for major in (10, 11)
)

SOURCE = """
#include <stddef.h>
void *createInferBuilder_INTERNAL(void *logger, int version) { return NULL; }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return NULL; }
void *createInferRuntime_INTERNAL(void *logger, int version) { return NULL; }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return NULL; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return NULL; }
void *getBuilderPluginRegistry(int capability) { return NULL; }
void *getPluginRegistry(void) { return NULL; }
int getNvOnnxParserVersion(void) { return 0; }
_Bool initLibNvInferPlugins(void *logger, const char *prefix) { return 1; }
"""

PRELUDE = """
import sys
import tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings  # as the wheel "tensorrt" does; its submodules follow
"""


def compiler() -> str | None:
    """The C compiler of this machine, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compile_stub(folder: Path) -> Path:
    """Write the stand-in libraries into ``folder`` and return it (0.2 s)."""
    found = compiler()
    assert found, "ask compiler() first"
    source = folder / "stub.c"
    source.write_text(SOURCE)
    for name in SONAMES:
        command = [
            found,
            "-w",
            "-shared",
            "-fPIC",
            f"-Wl,-soname,{name}",
            "-o",
            str(folder / name),
            str(source),
        ]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def run_in(bindings: Path, stub: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in its own process, where ``import tensorrt`` gives the bindings of this folder.

    Args:
        bindings: a folder into which a bindings wheel was installed (``pip install --no-deps --target``).
        stub: what :func:`compile_stub` returned.
        code: sees ``tensorrt`` and, from 10.9 on, ``tensorrt.plugin``; the project is importable too.
    """
    path = os.pathsep.join([str(bindings), str(ROOT)])
    libraries = os.pathsep.join(filter(None, [str(stub), os.environ.get("LD_LIBRARY_PATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": libraries}
    program = PRELUDE + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
