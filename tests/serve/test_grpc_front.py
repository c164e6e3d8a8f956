"""The protocol over gRPC against a real server, with messages of our own; NVIDIA's client is in test_triton_client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.serve.grpc_front import parse
from scconv_deploy.serve.messages import SERVICE, message
from tests.serve.bundles import SHAPE, pictures
from tests.serve.running import Running


class Client:
    """One channel; ``client("ModelInfer", request)``."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __call__(self, verb: str, request: Any = None, timeout: float = 30.0) -> Any:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{verb}",
            request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=message(f"{verb}Response").FromString,
        )
        return call(message(f"{verb}Request")() if request is None else request, timeout=timeout)


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        yield Client(channel)


def asked(x: np.ndarray, model: str = "net", version: str = "", *, raw: bool = True) -> Any:
    request = message("ModelInferRequest")(model_name=model, model_version=version, id="7")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    if raw:
        request.raw_input_contents.append(x.tobytes())
    else:
        tensor.contents.fp32_contents.extend(x.reshape(-1).tolist())
    return request


def test_health_and_metadata(client: Client) -> None:
    assert client("ServerLive").live
    assert client("ServerReady").ready
    assert client("ServerMetadata").name == "scconv-serve"
    assert client("ModelReady", message("ModelReadyRequest")(name="net")).ready
    assert not client("ModelReady", message("ModelReadyRequest")(name="no")).ready
    found = client("ModelMetadata", message("ModelMetadataRequest")(name="many"))
    assert list(found.versions) == ["1", "2"]
    assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs] == [("x", "FP32", [-1, *SHAPE])]


@pytest.mark.parametrize("raw", [True, False])
def test_raw_and_typed_tensors(client: Client, raw: bool) -> None:
    x = pictures(2)
    answer = client("ModelInfer", asked(x, "many", "1", raw=raw))
    assert (answer.model_name, answer.model_version, answer.id) == ("many", "1", "7")
    assert [o.name for o in answer.outputs] == ["y"]
    y = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(tuple(answer.outputs[0].shape))
    assert np.array_equal(y, 10 * x)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (asked(pictures(1), "nett"), grpc.StatusCode.NOT_FOUND, "did you mean 'net'"),
        (asked(pictures(1)[:, :2]), grpc.StatusCode.INVALID_ARGUMENT, "on axis 1"),
        (message("ModelInferRequest")(model_name="net"), grpc.StatusCode.INVALID_ARGUMENT, "no inputs"),
    ],
)
def test_errors_have_a_status_and_a_sentence(
    client: Client, request_: Any, code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client("ModelInfer", request_)
    assert caught.value.code() == code
    assert words in str(caught.value.details())


def test_an_unknown_output_is_refused(client: Client) -> None:
    request = asked(pictures(1))
    request.outputs.add(name="z")
    with pytest.raises(grpc.RpcError, match="no output is called 'z'"):
        client("ModelInfer", request)


def test_too_large_a_message_is_refused(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client("ModelInfer", asked(np.zeros((600, *SHAPE), np.float32)))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("verb", ["ModelInfer", "ModelReady", "ServerMetadata"])
def test_bytes_that_are_no_message(verb: str, client: Client) -> None:
    class Garbage:
        def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
            return b"\xff" * 50

    with pytest.raises(grpc.RpcError) as caught:
        client(verb, Garbage())
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert f"no valid {verb}Request" in str(caught.value.details())


def test_parsing_alone() -> None:
    request = asked(pictures(1))
    request.parameters["timeout"].int64_param = 5000
    assert parse(request).timeout_s == 0.005
    request.raw_input_contents.append(b"")
    with pytest.raises(InputError, match="1 inputs are described and 2 raw contents"):
        parse(request)
    twice = asked(pictures(1))
    twice.inputs.add(name="x", datatype="FP32", shape=[0])
    twice.raw_input_contents.append(b"")
    with pytest.raises(InputError, match="given twice"):
        parse(twice)
    half = message("ModelInferRequest")()
    half.inputs.add(name="x", datatype="FP16", shape=[1])
    with pytest.raises(InputError, match="must be sent as raw bytes"):
        parse(half)
