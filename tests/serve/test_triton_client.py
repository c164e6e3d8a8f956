"""NVIDIA's own clients against this server: the protocol as others understand it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.serve.bundles import SHAPE, pictures
from tests.serve.running import Running

http = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
grpc = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient[grpc]")
utils = pytest.importorskip("tritonclient.utils", reason="needs tritonclient")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_http(server: Running, binary_in: bool, binary_out: bool, compression: str | None) -> None:
    x = pictures(2)
    with http.InferenceServerClient(f"127.0.0.1:{server.http}") as client:
        given = http.InferInput("x", list(x.shape), "FP32")
        given.set_data_from_numpy(x, binary_data=binary_in)
        wanted = [http.InferRequestedOutput("y", binary_data=binary_out)]
        answer = client.infer(
            "many", [given], "1", outputs=wanted, request_id="7", request_compression_algorithm=compression
        )
        assert np.array_equal(answer.as_numpy("y"), 10 * x)
        assert answer.get_response()["id"] == "7"


def test_http_health_metadata_and_errors(server: Running) -> None:
    with http.InferenceServerClient(f"127.0.0.1:{server.http}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("many", "2")
        assert not client.is_model_ready("many", "9")
        assert client.get_model_metadata("net")["inputs"][0]["shape"] == [-1, *SHAPE]
        assert client.get_server_metadata()["name"] == "scconv-serve"
        assert len(client.get_model_repository_index()) == 3
        with pytest.raises(utils.InferenceServerException, match="did you mean 'net'"):
            client.get_model_metadata("nett")


def test_grpc(server: Running) -> None:
    x = pictures(3)
    with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        assert client.is_server_ready()
        assert client.is_model_ready("net")
        assert list(client.get_model_metadata("many").versions) == ["1", "2"]
        given = grpc.InferInput("x", list(x.shape), "FP32")
        given.set_data_from_numpy(x)
        answer = client.infer("net", [given], outputs=[grpc.InferRequestedOutput("y")], request_id="7")
        assert np.array_equal(answer.as_numpy("y"), 2 * x)
        assert answer.get_response().id == "7"
        with pytest.raises(utils.InferenceServerException, match="no model is called"):
            client.infer("no", [given])


def test_both_asynchronous_clients(server: Running) -> None:
    import tritonclient.grpc.aio
    import tritonclient.http.aio

    async def many(kind: object, module: object, port: int | None) -> None:
        x = [pictures(1 + n % 3, seed=n) for n in range(40)]
        async with module.InferenceServerClient(f"127.0.0.1:{port}") as client:  # type: ignore[attr-defined]

            async def one(array: np.ndarray) -> np.ndarray:
                given = kind.InferInput("x", list(array.shape), "FP32")  # type: ignore[attr-defined]
                given.set_data_from_numpy(array)
                answer = await client.infer("net", [given])
                return np.asarray(answer.as_numpy("y"))

            answers = await asyncio.gather(*map(one, x))
        assert all(np.array_equal(y, 2 * a) for y, a in zip(answers, x, strict=True))

    asyncio.run(many(http, tritonclient.http.aio, server.http))
    asyncio.run(many(grpc, tritonclient.grpc.aio, server.grpc))
