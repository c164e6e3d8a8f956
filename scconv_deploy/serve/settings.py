"""What ``scconv-serve`` was asked for, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from scconv_deploy.errors import InputError

LOOPBACK = "127.0.0.1"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How requests are put together, and how many may wait.

    ``max_batch``: most samples in one call of the engine; 1 turns batching off. ``max_delay_ms``: how long the
    first request of a batch may wait for others; at 0 a batch is what came in while the engine was busy.
    ``queue_size``: most requests that wait per model; one more is refused at once. ``instances``: calls of the
    engine that may run at the same time.
    """

    max_batch: int = 16
    max_delay_ms: float = 0.0
    queue_size: int = 256
    instances: int = 1

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-batch", self.max_batch),
            ("--queue-size", self.queue_size),
            ("--instances", self.instances),
        ):
            if value < 1:
                raise InputError(f"{option} must be at least 1, not {value}")
        if not (math.isfinite(self.max_delay_ms) and self.max_delay_ms >= 0):
            raise InputError(f"--max-delay must be at least 0 milliseconds, not {self.max_delay_ms}")


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A server. ``names`` are the models' names in the order of ``bundles``; empty means the folders' names.

    Ports may be 0: the system then chooses. ``grpc_port`` None serves HTTP only. ``token`` is what clients must
    send as ``Authorization: Bearer``. ``threads`` and ``provider`` are the engine's, ``verify`` and
    ``fallback`` as :func:`scconv_deploy.open` has them. ``traces``: an OTLP/HTTP endpoint. ``poll_s``: how often
    bundles are looked at for replacement; 0 never. ``drain_s``: how long running requests may take at the end.
    """

    bundles: tuple[Path, ...]
    names: tuple[str, ...] = ()
    host: str = LOOPBACK
    port: int = 8000
    grpc_port: int | None = 8001
    batching: BatchLimits = BatchLimits()
    timeout_s: float = 30.0
    max_request_mib: float = 64.0
    token: str | None = None
    threads: int | None = None
    provider: str | None = None
    verify: str = "golden"
    poll_s: float = 1.0
    drain_s: float = 20.0
    traces: str | None = None
    ui: bool = False
    fallback: str | None = None

    def __post_init__(self) -> None:
        if not self.bundles:
            raise InputError("name at least one bundle to serve")
        if self.names and len(self.names) != len(self.bundles):
            raise InputError(
                f"--name is given {len(self.names)} times for {len(self.bundles)} bundles; give it once for "
                "each bundle, in their order, or not at all"
            )
        for option, value in (("--timeout", self.timeout_s), ("--max-request", self.max_request_mib)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{option} must be a number above 0, not {value}")
        for option, value in (("--poll", self.poll_s), ("--drain", self.drain_s)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{option} must be at least 0 seconds, not {value}")
        for option, port in (("--port", self.port), ("--grpc-port", self.grpc_port)):
            if port is not None and not 0 <= port <= 65535:
                raise InputError(f"{option} must be from 0 to 65535, not {port}")
        if self.token is not None and not self.token.strip():
            raise InputError("the token is empty; leave it out to serve without one")

    @property
    def max_request_bytes(self) -> int:
        """Largest body of a request, compressed or not."""
        return int(self.max_request_mib * MIB)
