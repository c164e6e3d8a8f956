"""One request -> one answer, the same for both protocols: look up, check, queue, wait, count, trace, log."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from scconv_deploy.serve import logs
from scconv_deploy.serve.batching import Answer
from scconv_deploy.serve.failures import DeadlineError, DrainingError, UnauthorisedError, failure
from scconv_deploy.serve.metrics import Metrics
from scconv_deploy.serve.model import Model
from scconv_deploy.serve.repository import Repository
from scconv_deploy.serve.settings import ServeConfig
from scconv_deploy.serve.tracing import Tracing
from scconv_deploy.serve.wire import InferRequest, wanted

UNKNOWN = "(unknown)"
"""Label of requests for models that are not there: a stranger's names make no new series."""
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")


@dataclass(frozen=True, slots=True)
class Done:
    """An answered request and the version that answered."""

    model: Model
    answer: Answer


class Inference:
    """The server's core. ``draining`` is set once, when the server stops: then nothing new is taken."""

    def __init__(
        self, repository: Repository, config: ServeConfig, metrics: Metrics, tracing: Tracing
    ) -> None:
        self.repository, self.config, self.metrics, self.tracing = repository, config, metrics, tracing
        self.draining = False
        self.running = 0

    @property
    def ready(self) -> bool:
        """Whether requests are taken and every model has a version that serves."""
        return not self.draining and bool(self.repository.names())

    def authorise(self, header: str | None) -> None:
        """Compare an ``Authorization`` header with the token, in constant time.

        Raises:
            UnauthorisedError: it does not match.
        """
        if self.config.token is None:
            return
        given = (header or "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.config.token}".encode()):
            raise UnauthorisedError("this server wants a token: send the header Authorization: Bearer TOKEN")

    async def infer(
        self, name: str, version: str | None, request: InferRequest, protocol: str, carrier: Mapping[str, str]
    ) -> Done:
        """Answer a request.

        Raises:
            Exception: see :mod:`scconv_deploy.serve.failures`; it is counted and logged here.
        """
        started = time.perf_counter()
        labels = (UNKNOWN, UNKNOWN)
        outcome = "ok"
        answer: Answer | None = None
        self.running += 1
        try:
            with self.tracing.span("infer", carrier, {"model": name, "protocol": protocol}) as span:
                model = self.repository.model(name, version)
                labels = (model.name, str(model.version))
                model, answer = await self._answer(model, version, request)
                self.metrics.answered(*labels, answer)
                if span is not None:
                    span.set_attribute("queue_ms", answer.queue_s * 1e3)
                    span.set_attribute("compute_ms", answer.compute_s * 1e3)
                    span.set_attribute("batch", answer.batch)
                return Done(model, answer)
        except BaseException as error:
            outcome = failure(error).grpc.lower() if isinstance(error, Exception) else "cancelled"
            if outcome == "internal":
                logs.exception("a request failed", error, model=name, id=request.id)
            raise
        finally:
            self.running -= 1
            seconds = time.perf_counter() - started
            self.metrics.request(*labels, protocol, outcome, seconds)
            self._log(labels, request, protocol, outcome, seconds, answer)

    async def _answer(self, model: Model, version: str | None, request: InferRequest) -> tuple[Model, Answer]:
        if self.draining:
            raise DrainingError("the server is stopping; try another one, or again later")
        wanted(request, {t.name: t for t in model.outputs})
        timeout_s = min(request.timeout_s or self.config.timeout_s, self.config.timeout_s)
        try:
            future = model.infer(request.inputs, timeout_s)
        except DrainingError:
            again = self.repository.model(model.name, version)
            if again is model:
                raise
            # It was replaced between looking it up and asking it.
            model, future = again, again.infer(request.inputs, timeout_s)
        return model, await _within(future, timeout_s)

    def _log(
        self,
        labels: tuple[str, str],
        request: InferRequest,
        protocol: str,
        outcome: str,
        seconds: float,
        answer: Answer | None,
    ) -> None:
        if not logging.getLogger(logs.LOGGER).isEnabledFor(logging.INFO):
            return
        logs.log(
            logging.INFO,
            "request",
            model=labels[0],
            version=labels[1],
            protocol=protocol,
            outcome=outcome,
            id=request.id[:128],
            ms=round(seconds * 1e3, 3),
            queue_ms=None if answer is None else round(answer.queue_s * 1e3, 3),
            batch=None if answer is None else answer.batch,
        )


async def _within(future: Future[Answer], timeout_s: float) -> Answer:
    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
    except TimeoutError:
        raise DeadlineError(f"no answer within {timeout_s:g} seconds") from None
