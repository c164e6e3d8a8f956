"""A timing cache file -> a builder that starts from it, and the file with what this build timed added to it.

TensorRT only (RTX times nothing when it builds). The file is replaced in one step, after merging in what another
export may have written meanwhile; a cache that this TensorRT cannot read is an error, never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from scconv_deploy.errors import BuildError, CapabilityError


def attach(config: Any, file: Path) -> Any:
    """Give ``config`` the timings of ``file`` (none where there is no such file yet); returns the cache.

    Raises:
        BuildError: the file is no timing cache of this TensorRT and GPU, or the builder does not take it.
        CapabilityError: the file cannot be read.
    """
    try:
        data = file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise CapabilityError(f"the timing cache {file} cannot be read: {error.strerror}") from error
    cache = config.create_timing_cache(data)
    # False: timings of another GPU or version are refused rather than believed.
    if cache is None or not config.set_timing_cache(cache, False) or config.get_timing_cache() is None:
        raise BuildError(
            f"the timing cache {file} is of another GPU or TensorRT, or damaged; give another --timingCacheFile, "
            "or remove it"
        )
    return cache


def save(config: Any, cache: Any, file: Path) -> None:
    """Write the cache back, with what the file holds by now merged in.

    Raises:
        CapabilityError: the file cannot be written; the engine itself was built.
    """
    written: str | None = None
    try:
        if file.exists():
            now = config.create_timing_cache(file.read_bytes())
            if now is not None:
                cache.combine(now, False)
        handle, written = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(bytes(cache.serialize()))
        Path(written).replace(file)
    except OSError as error:
        if written is not None:
            with contextlib.suppress(OSError):
                Path(written).unlink()
        raise CapabilityError(f"the timing cache {file} cannot be written: {error.strerror}") from error
