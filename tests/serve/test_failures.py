"""Every error has a status in both protocols, and strangers are not told about our mistakes."""

from __future__ import annotations

import pytest

from scconv_deploy.errors import BuildError, InputError, ScconvDeployError
from scconv_deploy.serve import failures as f


@pytest.mark.parametrize(
    ("error", "http", "grpc", "retry"),
    [
        (InputError("x"), 400, "INVALID_ARGUMENT", None),
        (f.UnauthorisedError("x"), 401, "UNAUTHENTICATED", None),
        (f.NotFoundError("x"), 404, "NOT_FOUND", None),
        (f.SlowClientError("x"), 408, "DEADLINE_EXCEEDED", None),
        (f.TooLargeError("x"), 413, "RESOURCE_EXHAUSTED", None),
        (f.QueueFullError("x"), 429, "RESOURCE_EXHAUSTED", 1),
        (f.DrainingError("x"), 503, "UNAVAILABLE", 1),
        (f.DeadlineError("x"), 504, "DEADLINE_EXCEEDED", None),
        (BuildError("x"), 500, "INTERNAL", None),
    ],
)
def test_statuses(error: ScconvDeployError, http: int, grpc: str, retry: int | None) -> None:
    assert f.failure(error) == f.Failure("x", http, grpc, retry)


def test_a_mistake_of_ours_keeps_its_details_to_the_log() -> None:
    told = f.failure(ZeroDivisionError("in /secret/place"))
    assert told.http == 500
    assert "secret" not in told.sentence
