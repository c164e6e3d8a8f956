"""The pure parts of the load test: a wrong answer counts as wrong; and its gRPC client against a real server."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from tests.serve.bundles import pictures
from tests.serve.grpc_calls import timed_calls, timed_empty_calls
from tests.serve.load import Case, is_right, wrong_answers
from tests.serve.running import Running


def test_an_answer_is_right_where_size_and_values_are() -> None:
    want = np.array([[1.0, 2.0]], np.float32)
    assert is_right(want.ravel(), want)
    assert not is_right(want.ravel() + np.float32(1e-2), want)
    assert not is_right(want.ravel()[:1], want)
    assert not is_right(np.full(2, np.nan, np.float32), want)


def test_grpc_calls_are_answered_in_turn_and_a_swapped_answer_is_found(server: Running) -> None:
    assert server.grpc is not None
    images = [pictures(1, seed) for seed in range(3)]
    seconds, answers = timed_calls(server.grpc, "net", "x", images, calls=5)
    assert len(seconds) == len(answers) == 5
    assert min(seconds) > 0
    assert len(timed_empty_calls(server.grpc, 3)) == 3
    made = [Case(x, b"", 2 * x) for x in images]
    assert wrong_answers(answers, made) == 0
    assert wrong_answers(answers[::-1], made) == 4  # the middle one keeps its place
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        timed_calls(server.grpc, "nets", "x", images, calls=1)
