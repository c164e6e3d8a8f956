"""A configuration -> a running server: open, bind, serve, watch for replaced bundles, drain, stop.

SIGTERM and Ctrl-C drain: nothing new is taken (503 with Retry-After, not ready), what was taken is answered, then
engines close. A second signal stops at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from starlette.routing import Route

from scconv_deploy.errors import EXIT_INTERRUPTED, EXIT_OK, InputError
from scconv_deploy.runtime.engine import VERIFY_LEVELS
from scconv_deploy.serve import logs
from scconv_deploy.serve.http import application
from scconv_deploy.serve.inference import Inference
from scconv_deploy.serve.metrics import Metrics
from scconv_deploy.serve.model import Model, open_model
from scconv_deploy.serve.page import page_routes
from scconv_deploy.serve.repository import Repository, Watcher, model_names
from scconv_deploy.serve.settings import LOOPBACK, ServeConfig
from scconv_deploy.serve.tracing import Tracing

LOCAL = (LOOPBACK, "localhost", "::1")
BACKLOG = 2048
KEEP_ALIVE_S = 75


@dataclass(frozen=True, slots=True)
class Started:
    """Where the server listens (``grpc`` None without gRPC) and what it serves."""

    host: str
    http: int
    grpc: int | None
    models: tuple[tuple[str, int], ...]


def serve(config: ServeConfig, started: Callable[[Started], None] = lambda _: None) -> int:
    """Serve until a signal; returns the exit code: 0 after SIGTERM, 130 after Ctrl-C.

    Args:
        config: what to serve, and where.
        started: called once, when requests are taken.

    Raises:
        InputError, CapabilityError: a bundle cannot be served here, or a port cannot be had; nothing runs then.
    """
    core = build(config)
    try:
        core.repository.load()
        return asyncio.run(_run(core, started))
    finally:
        core.repository.close()
        core.tracing.close()


def build(config: ServeConfig) -> Inference:
    """Everything but open engines and ports.

    Raises:
        InputError: names that collide, or an unknown level of verification.
        CapabilityError: traces are asked for and OpenTelemetry is missing.
    """
    if config.verify not in VERIFY_LEVELS:
        raise InputError(f"verify='{config.verify}' is unknown; choose one of {', '.join(VERIFY_LEVELS)}")
    metrics = Metrics()

    def opener(name: str, version: int, path: Any) -> Model:
        return open_model(
            name,
            version,
            path,
            config.batching,
            metrics.observer(name, version),
            threads=config.threads,
            provider=config.provider,
            verify=config.verify,
            fallback=config.fallback,
        )

    folders = model_names(config.bundles, config.names)
    repository = Repository(folders, opener, _Telling(metrics), config.drain_s)
    return Inference(repository, config, metrics, Tracing(config.traces))


class _Telling(Watcher):
    """Log and count what happens to models."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def opened(self, model: Model) -> None:
        self._metrics.ready(model.name, model.version, serves=True)
        self._metrics.reload(model.name, model.version, "opened")
        logs.log(logging.INFO, "serving", model=model.name, version=model.version, max_batch=model.max_batch)

    def closed(self, model: Model) -> None:
        logs.log(logging.INFO, "closed", model=model.name, version=model.version)

    def refused(self, name: str, version: int, error: Exception) -> None:
        self._metrics.reload(name, version, "refused")
        logs.log(logging.ERROR, "not served", model=name, version=version, reason=str(error))


class _Http(uvicorn.Server):
    """uvicorn, which tells the core first that it is told to stop."""

    def __init__(self, config: uvicorn.Config, core: Inference) -> None:
        super().__init__(config)
        self._core = core
        self.stopped_by: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.stopped_by is None:
            logs.log(logging.INFO, "draining", running=self._core.running)
        self.stopped_by = self.stopped_by or sig
        self._core.draining = True
        super().handle_exit(sig, frame)


async def _run(core: Inference, started: Callable[[Started], None]) -> int:
    config = core.config
    if config.host not in LOCAL and config.token is None:
        logs.log(logging.WARNING, "anyone who reaches this address can send requests: no --token-file is set")
    listening = _listen(config.host, config.port)
    http = _Http(_uvicorn(core), core)
    grpc_server, grpc_port = None, None
    try:
        if config.grpc_port is not None:
            from scconv_deploy.serve.grpc_front import start_grpc

            grpc_server, grpc_port = await start_grpc(core, config.host, config.grpc_port)
        with _harmless_signals():
            serving = asyncio.create_task(http.serve(sockets=[listening]))
            watching = asyncio.create_task(_watch(core))
            while not http.started and not serving.done():
                await asyncio.sleep(0.005)
            if not serving.done():
                models = tuple((n, v) for n in core.repository.names() for v in core.repository.versions(n))
                started(Started(config.host, listening.getsockname()[1], grpc_port, models))
            await serving
            watching.cancel()
    finally:
        core.draining = True
        if grpc_server is not None:
            await grpc_server.stop(config.drain_s)
        listening.close()
    return EXIT_INTERRUPTED if http.stopped_by == signal.SIGINT else EXIT_OK


def _uvicorn(core: Inference) -> uvicorn.Config:
    routes: tuple[Route, ...] = page_routes(core) if core.config.ui else ()
    return uvicorn.Config(
        application(core, routes),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(core.config.drain_s)),
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off; without, an answer can wait 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"port {port} on {host} cannot be had ({reason}); choose another --port") from error
    return listening


async def _watch(core: Inference) -> None:
    """Look for replaced bundles every so often; a look that fails is logged and tried again."""
    while core.config.poll_s > 0 and not core.draining:
        await asyncio.sleep(core.config.poll_s)
        try:
            await asyncio.to_thread(core.repository.refresh)
        except Exception as error:  # noqa: BLE001 - what serves goes on serving
            logs.exception("looking for replaced bundles failed", error)


@contextlib.contextmanager
def _harmless_signals() -> Iterator[None]:
    """uvicorn raises the signals it caught once more when it is done; then they have done their work."""
    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
