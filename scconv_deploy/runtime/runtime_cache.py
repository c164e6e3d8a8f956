"""Kernels that TensorRT for RTX compiled for this GPU -> a file of the user's cache folder, and back.

The cache holds code that will run on the GPU, so a file is read only where nobody but the user could have written
it (:mod:`~scconv_deploy.user_cache`). TensorRT checks the content itself (version, GPU, driver). A cache that
cannot be read or written costs start-up time, never a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from scconv_deploy import user_cache

FOLDER = "tensorrt-rtx"
LARGEST = 2**30
"""Bytes of a cache that is read; a larger file is not ours."""


def file_for(plan: bytes, library: str, gpu: str) -> Path:
    """One file per engine, version of the library and GPU."""
    key = hashlib.sha256(plan)
    key.update(f"\0{library}\0{gpu}".encode())
    return user_cache.folder(FOLDER) / f"{key.hexdigest()[:32]}.cache"


def read(file: Path) -> bytes | None:
    """The cached kernels, or None where there are none or the file is not safely the user's own."""
    try:
        if not user_cache.is_own(file):
            return None
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as stream:
            # Asked again of the open file: its name may have been given to another one meanwhile.
            found = os.fstat(stream.fileno())
            if not user_cache.only_mine(found, stat.S_ISREG) or found.st_size > LARGEST:
                return None
            return stream.read() or None
    except OSError:
        return None


def write(file: Path, data: bytes) -> bool:
    """Replace the cache in one step; False where it cannot be written (a full disk, a read-only home)."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not user_cache.only_mine(file.parent.lstat(), stat.S_ISDIR):
            return False
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".new-")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            Path(name).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError:
        return False
    return True
