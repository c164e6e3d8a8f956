"""TensorRT for RTX aborts its process at the first plugin node, unless its library is found by its short name.

Its parser opens ``libtensorrt_rtx.so``, and the wheel holds only ``libtensorrt_rtx.so.1``. A link of the short name in
a folder of our own, named in ``LD_LIBRARY_PATH`` before the building process starts, cures it; nothing is
written into the installed package. The very same file is then opened, so no second copy is loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path

from exporters.trt.platform import TENSORRT_RTX

SHORT = "libtensorrt_rtx.so"
VARIABLE = "LD_LIBRARY_PATH"


def environment(module: str, folder: Path) -> dict[str, str]:
    """What to add to the building process's environment; empty where ``module`` needs no guard.

    Args:
        module: ``tensorrt`` or ``tensorrt_rtx``.
        folder: where the link may be made; it must outlive the process.
    """
    library = long_name() if module == TENSORRT_RTX else None
    if library is None:
        return {}
    link = folder / SHORT
    with contextlib.suppress(FileExistsError):
        link.symlink_to(library)
    return {VARIABLE: os.pathsep.join(filter(None, (str(folder), os.environ.get(VARIABLE))))}


def long_name() -> Path | None:
    """The library in the wheel; None where it is not there, or has its short name too."""
    try:
        home = importlib.import_module("tensorrt_rtx_libs").__file__
    except (ImportError, OSError, RuntimeError):
        return None
    folder = Path(home or "").parent
    if (folder / SHORT).exists():
        return None
    return next(iter(sorted(folder.glob(f"{SHORT}.*"))), None)
