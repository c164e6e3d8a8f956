"""gRPC calls to a server under test, one after the other, each timed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import grpc
import numpy as np

from scconv_deploy.serve.messages import SERVICE, message


def timed_calls(
    port: int, model: str, name: str, arrays: Sequence[np.ndarray], calls: int
) -> tuple[list[float], list[np.ndarray]]:
    """Seconds of every call and its first output, flat float32; call n sends array n, from the start again at the end.

    Requests carry raw tensors and are serialised beforehand; an answer's parsing is part of its call.

    Raises:
        grpc.RpcError: the server refused one, or is not there.
    """
    requests = [_request(model, name, array) for array in arrays]
    seconds, answers = [], []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        for n in range(calls):
            started = time.perf_counter()
            answer = message("ModelInferResponse").FromString(ask(requests[n % len(requests)], timeout=30))
            made = np.frombuffer(answer.raw_output_contents[0], np.float32)
            seconds.append(time.perf_counter() - started)
            answers.append(made)
    return seconds, answers


def timed_empty_calls(port: int, calls: int) -> list[float]:
    """Seconds of calls that ask for nothing (``ServerLive``): what gRPC itself takes, in this client and the server."""
    seconds = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ServerLive")
        for _ in range(calls):
            started = time.perf_counter()
            ask(b"", timeout=30)
            seconds.append(time.perf_counter() - started)
    return seconds


def _request(model: str, name: str, array: np.ndarray) -> bytes:
    request = message("ModelInferRequest")(model_name=model)
    request.inputs.add(name=name, datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    made: bytes = request.SerializeToString()
    return made
