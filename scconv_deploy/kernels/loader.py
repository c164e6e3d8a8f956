"""Where the library of fused kernels is, what it was built for, and which models ask for it.

The library is built with the package where there is a C++ compiler. Imports neither torch nor onnx.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import mmap
from pathlib import Path
from typing import Any

LOG = logging.getLogger("scconv_deploy.kernels")
FOLDER = Path(__file__).parent
NAME = "libscconv_ort.so"
NODE_MARK = b"\x3a\x06scconv"
"""Field 7 (domain) of an ONNX NodeProto with the six letters ``scconv``, as protobuf writes it."""
REBUILD = "install a C++ compiler (GCC or Clang), then install scconv-deploy again"


def library() -> Path | None:
    """The library, or None where it was not built (no compiler) or not for this system."""
    path = FOLDER / NAME
    return path if path.is_file() else None


def instruction_set() -> str | None:
    """The build of the kernels that this CPU runs: ``avx512``, ``avx2`` or ``plain``.

    None where there is no library, or it cannot be loaded here (another system's, a broken file).
    """
    ask = _function("scconv_instruction_set")
    if ask is None:
        return None
    ask.restype = ctypes.c_char_p
    return str(ask().decode())


def block_version() -> int:
    """Which form of the operator ``scconv::Block`` the library has (``runtime/block_fusion.py`` writes it).

    0 where it has none, there is no library, or it cannot be loaded here.
    """
    ask = _function("scconv_block_version")
    return 0 if ask is None else int(ask())


def _function(name: str) -> Any:
    """One of the library's own functions, or None where it cannot be asked."""
    path = library()
    if path is None:
        return None
    try:
        return getattr(ctypes.CDLL(str(path)), name)
    except (OSError, AttributeError):
        return None


def holds_fused_nodes(model: Path | bytes) -> bool:
    """Whether an ONNX file or its bytes hold nodes of the domain ``scconv``.

    Searched as bytes: parsing would need the onnx package. A chance hit in weights only loads the library in
    vain. A file that cannot be read holds none; opening it will say why.
    """
    if isinstance(model, bytes):
        return NODE_MARK in model
    try:
        with model.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(NODE_MARK) >= 0
    except (OSError, ValueError):
        return False


@functools.cache
def say_once(sentence: str) -> None:
    """Log a warning, the first time in this process."""
    LOG.warning("%s", sentence)
