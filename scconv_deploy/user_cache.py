"""What may be made again -> a folder of this user's own, and whether a file in it can be trusted.

Caches hold code that will run (kernels, graphs, libraries), so what lies there is used only where nobody but the
user could have written it: a real folder and a real file, owned by this user, writable by no one else.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path


def folder(name: str) -> Path:
    """``$XDG_CACHE_HOME/scconv-deploy/NAME``, or below the system's own place for caches; it may not exist yet.

    Args:
        name: what is kept there.

    Raises:
        RuntimeError: this user has no home folder.
    """
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        chosen = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG base directory specification: relative paths are invalid.
        base = Path(chosen) if Path(chosen).is_absolute() else Path.home() / ".cache"
    return base / "scconv-deploy" / name


def is_own(file: Path) -> bool:
    """Whether a file and the folder it lies in are this user's alone; False where either is not there."""
    try:
        return only_mine(file.parent.lstat(), stat.S_ISDIR) and only_mine(file.lstat(), stat.S_ISREG)
    except OSError:
        return False


def only_mine(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Owned by this user, writable by nobody else, and of the wanted kind (so no symbolic link)."""
    if not is_kind(found.st_mode):
        return False
    if not hasattr(os, "getuid"):  # Windows keeps a user's folder private by itself
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
