"""Kernels compiled by g++ against ``emulation.h`` -> launched as the CUDA driver would launch them.

The text compiled is the very one that NVRTC gets (:func:`scconv_deploy.kernels.ptx.source`).
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.kernels.ptx import FOLDER, TYPES, KernelSpec, source

HERE = Path(__file__).parent
FLOATS = {"scale", "shift", "weight", "mask", "parts"}


class Emulated:
    """A library of kernels; ``launch`` runs one of them to its end."""

    def __init__(self, folder: Path, specs: Sequence[KernelSpec], edits: Sequence[tuple[str, str, str]] = ()):
        """Compile ``specs`` into ``folder``; ``edits`` are (header, text, replacement) for broken twins."""
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("no C++ compiler here to emulate a GPU with")
        for header in FOLDER.glob("*.cuh"):
            text = header.read_text()
            for name, old, new in edits:
                if name == header.name:
                    assert text.count(old) >= 1, f"{name} no longer holds {old}"
                    text = text.replace(old, new)
            (folder / header.name).write_text(text)
        unit = "\n".join(['#include "emulation.h"', *(source(s) + _launcher(s) for s in specs)])
        name = hashlib.sha256((unit + repr(edits)).encode()).hexdigest()[:16]
        (folder / f"{name}.cpp").write_text(unit)
        command = [compiler, "-std=c++17", "-O1", "-g0", "-w", "-fPIC", "-shared", f"-I{folder}", f"-I{HERE}"]
        target = folder / f"{name}.so"
        subprocess.run([*command, str(folder / f"{name}.cpp"), "-o", str(target)], check=True)
        self._library = ctypes.CDLL(str(target))

    def launch(
        self,
        spec: KernelSpec,
        grid: int,
        block: int,
        inputs: Sequence[np.ndarray],
        extras: Sequence[int],
        outputs: Sequence[np.ndarray],
        order: int = 0,
    ) -> None:
        """Run ``grid`` blocks; outputs are written in place. ``order``: of the threads, see ``emulation.h``."""
        assert [len(inputs), len(extras), len(outputs)] == [
            len(spec.inputs),
            len(spec.extras),
            len(spec.outputs),
        ]
        cells: list[ctypes._SimpleCData] = [ctypes.c_void_p(a.ctypes.data) for a in inputs]
        cells += [ctypes.c_int(e) for e in extras]
        cells += [ctypes.c_void_p(a.ctypes.data) for a in outputs]
        pointers = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(c) for c in cells))
        run = getattr(self._library, f"run_{spec.entry}")
        run.restype = ctypes.c_char_p
        failure = run(grid, block, order, pointers)
        if failure is not None:
            raise RuntimeError(failure.decode())


def _launcher(spec: KernelSpec) -> str:
    kinds = ["const float*" if n in FLOATS else f"const {TYPES[spec.dtype]}*" for n in spec.inputs]
    kinds += ["int"] * len(spec.extras)
    kinds += ["float*" if n in FLOATS else f"{TYPES[spec.dtype]}*" for n in spec.outputs]
    arguments = ", ".join(f"*static_cast<{kind}*>(arguments[{i}])" for i, kind in enumerate(kinds))
    return (
        f'extern "C" const char* run_{spec.entry}(unsigned grid, unsigned block, unsigned order, void** arguments) {{\n'
        f"  return emulation::run(grid, block, order, [&] {{ {spec.entry}({arguments}); }});\n}}\n"
    )
