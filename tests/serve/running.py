"""A real server in a process of its own, on ports the system chose."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """Its process and ports; ``log`` is the file its standard error goes to."""

    process: subprocess.Popen[str]
    http: int
    grpc: int | None
    log: Path


@contextlib.contextmanager
def running(log: Path, *arguments: str) -> Iterator[Running]:
    """``scconv-serve ARGUMENTS``, ready; killed at the end where it still runs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("a") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "scconv_deploy", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=environment,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        http = re.search(r"on http://[^ ]*:(\d+)", line)
        assert http is not None, log.read_text()
        grpc = re.search(r"gRPC on port (\d+)", line)
        yield Running(process, int(http[1]), int(grpc[1]) if grpc else None, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
