"""OpenVINO's Core, one for the whole process.

Its CPU plugin gives the thread that loads it a signal stack large enough for AMX registers, and puts the one before
back when the plugin goes (2026.4). Two plugins that do not go in the reverse order leave the thread a stack that was
already freed, and the next signal kills the process: a server that reopens a model, then SIGTERM. One plugin that
stays cannot do that; it also is loaded only once.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import openvino as ov

_LOCK = threading.Lock()
_EXTENSIONS: set[Path] = set()


def process_core() -> ov.Core:
    """The one Core with which models are compiled. OpenVINO states that it may be used from several threads."""
    with _LOCK:
        return _made()


def extend(library: Path) -> None:
    """Add the operators of an extension, once.

    Raises:
        Exception: what OpenVINO raises for a library that it cannot load.
    """
    core = process_core()
    with _LOCK:
        if library not in _EXTENSIONS:
            core.add_extension(library)
            _EXTENSIONS.add(library)


@functools.cache
def _made() -> ov.Core:
    return ov.Core()
