"""Every way a request can end badly -> one sentence, an HTTP status and a gRPC status.

=====================================  ====  ===================
what happened                          HTTP  gRPC
=====================================  ====  ===================
names, types, shapes, syntax           400   INVALID_ARGUMENT
no or a wrong token                    401   UNAUTHENTICATED
no such model or version               404   NOT_FOUND
the body did not come in time          408   DEADLINE_EXCEEDED
the body is too large                  413   RESOURCE_EXHAUSTED
the queue is full (with Retry-After)   429   RESOURCE_EXHAUSTED
a mistake of this program              500   INTERNAL
the server is stopping (Retry-After)   503   UNAVAILABLE
it took longer than allowed            504   DEADLINE_EXCEEDED
=====================================  ====  ===================
"""

from __future__ import annotations

from dataclasses import dataclass

from scconv_deploy.errors import InputError, ScconvDeployError, first_line


class NotFoundError(InputError):
    """No model, or no version of it, is served under this name."""


class UnauthorisedError(InputError):
    """The request carries no token, or another one."""


class TooLargeError(InputError):
    """The request's body is larger than this server takes."""


class SlowClientError(InputError):
    """The request's body did not come in time."""


class QueueFullError(ScconvDeployError):
    """As many requests wait already as may."""


class DrainingError(ScconvDeployError):
    """The server is stopping, or the model is being taken away."""


class DeadlineError(ScconvDeployError):
    """The answer did not come in time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as both protocols say it. ``retry_after_s``: when to try again, where that helps."""

    sentence: str
    http: int
    grpc: str
    retry_after_s: int | None = None


_STATUS: tuple[tuple[type[Exception], int, str, int | None], ...] = (
    (NotFoundError, 404, "NOT_FOUND", None),
    (UnauthorisedError, 401, "UNAUTHENTICATED", None),
    (SlowClientError, 408, "DEADLINE_EXCEEDED", None),
    (TooLargeError, 413, "RESOURCE_EXHAUSTED", None),
    (QueueFullError, 429, "RESOURCE_EXHAUSTED", 1),
    (DrainingError, 503, "UNAVAILABLE", 1),
    (DeadlineError, 504, "DEADLINE_EXCEEDED", None),
    (InputError, 400, "INVALID_ARGUMENT", None),
)


def failure(error: BaseException) -> Failure:
    """Any exception -> what the client is told; inner mistakes are not described to strangers."""
    for kind, http, grpc, retry in _STATUS:
        if isinstance(error, kind):
            return Failure(str(error), http, grpc, retry)
    if isinstance(error, ScconvDeployError):
        return Failure(first_line(error), 500, "INTERNAL")
    return Failure("internal error; the server's log says more", 500, "INTERNAL")
