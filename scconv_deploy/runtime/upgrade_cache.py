"""Upgraded graphs by what they hang on -> files in the user's cache folder, each proved whole when it is read.

An upgrade belongs to one model, one build of our kernels, one version of ONNX Runtime and one kind of CPU; their
digest is the file's name. A refusal is kept as well, so that the question is asked once. First loads of one
model at the same time, in threads or processes, wait for each other; where the system has no file locks they only
do the work twice, since a file appears in one step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scconv_deploy import user_cache
from scconv_deploy.runtime import runtime_cache

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOG = logging.getLogger("scconv_deploy.runtime")
FOLDER = "onnxruntime"
SUFFIX = ".graph"
LARGEST = 2 * 2**30
"""Bytes of all files together; the least lately used ones go first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one upgrade.

    Attributes:
        graph: the upgraded model, or empty where it is refused.
        block: channels in a block of it.
        refused: why there is none, or empty.
        nodes: how many of ours work on blocks in it.
        whole_blocks: how many of those are SCConv blocks as one node.
    """

    graph: bytes = b""
    block: int = 0
    refused: str = ""
    nodes: int = 0
    whole_blocks: int = 0


def file_for(**facts: str) -> Path | None:
    """The file for what an upgrade hangs on; None where this user has no folder of his own."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    try:
        return user_cache.folder(FOLDER) / f"{key}{SUFFIX}"
    except RuntimeError:  # Path.home() finds no home
        return None


def read(file: Path | None) -> Entry | None:
    """What was written, or None where there is nothing, or nothing whole (which is taken away and logged)."""
    data = None if file is None else runtime_cache.read(file)
    if file is None or data is None:
        return None
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        LOG.warning("%s is damaged; it is made anew", file)
        with contextlib.suppress(OSError):
            file.unlink()
        return None
    head, _, graph = body.partition(b"\n")
    known: dict[str, Any] = json.loads(head)
    with contextlib.suppress(OSError):
        os.utime(file)
    return Entry(graph, **known)


def write(file: Path | None, entry: Entry) -> None:
    """Keep an entry; where that is not possible it is logged, and costs the next load its time."""
    if file is None:
        return
    facts = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name != "graph"}
    head = json.dumps(facts).encode()
    body = head + b"\n" + entry.graph
    digest = hashlib.sha256(body).hexdigest().encode()
    if len(body) > runtime_cache.LARGEST or not runtime_cache.write(file, digest + b"\n" + body):
        LOG.info("%s cannot be written; the model will be upgraded again when it is opened next", file)
        return
    _prune(file)


@contextlib.contextmanager
def alone(file: Path | None) -> Iterator[None]:
    """Hold the right to make this entry; a process that dies gives it back."""
    with contextlib.ExitStack() as stack:
        if file is not None and fcntl is not None:
            try:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Of its own open file each time: threads of one process wait for each other as well.
                lock = stack.enter_context(file.with_suffix(".lock").open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                LOG.info("%s cannot be locked (%s); the model may be upgraded twice", file, error)
        yield


def _prune(newest: Path) -> None:
    """Take away what was used longest ago until the rest is small enough; ``newest`` stays."""
    with contextlib.suppress(OSError):
        found = [(f.stat().st_mtime, f.stat().st_size, f) for f in newest.parent.glob(f"*{SUFFIX}")]
        left = sum(size for _, size, _ in found)
        for _, size, file in sorted(found, key=lambda item: item[0]):
            if left <= LARGEST:
                break
            if file != newest:
                file.unlink()
                left -= size
