"""Options that make no server are refused with the option's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.serve.settings import LOOPBACK, BatchLimits, ServeConfig

ONE = (Path("bundle"),)


def test_the_default_is_reachable_from_this_machine_only() -> None:
    config = ServeConfig(ONE)
    assert config.host == LOOPBACK
    assert config.token is None
    assert config.max_request_bytes == 64 * 2**20


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"bundles": ()}, "at least one bundle"),
        ({"names": ("a", "b")}, "--name is given 2 times for 1 bundles"),
        ({"timeout_s": 0.0}, "--timeout"),
        ({"timeout_s": float("nan")}, "--timeout"),
        ({"max_request_mib": -1.0}, "--max-request"),
        ({"poll_s": -1.0}, "--poll"),
        ({"drain_s": float("inf")}, "--drain"),
        ({"port": 70000}, "--port"),
        ({"grpc_port": -1}, "--grpc-port"),
        ({"token": " "}, "the token is empty"),
    ],
)
def test_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ServeConfig(**({"bundles": ONE} | changed))


@pytest.mark.parametrize("field", ["max_batch", "queue_size", "instances"])
def test_limits_are_at_least_one(field: str) -> None:
    with pytest.raises(InputError, match=f"--{field.replace('_', '-')} must be at least 1"):
        BatchLimits(**{field: 0})
    with pytest.raises(InputError, match="--max-delay"):
        BatchLimits(max_delay_ms=-1.0)
