"""The protocol over HTTP against a real server: answers, statuses, limits, and nothing but JSON errors."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from starlette.requests import Request

from scconv_deploy.serve.failures import SlowClientError
from scconv_deploy.serve.http import _body
from tests.serve.bundles import LARGEST, SHAPE, pictures
from tests.serve.calls import call, get, infer
from tests.serve.running import Running


def test_health_metadata_and_index(server: Running) -> None:
    assert get(server.http, "/v2/health/live") == (200, {"live": True})
    assert get(server.http, "/v2/health/ready") == (200, {"ready": True})
    status, told = get(server.http, "/v2")
    assert (status, told["name"]) == (200, "scconv-serve")
    assert "binary_tensor_data" in told["extensions"]
    assert get(server.http, "/v2/models/many") == (
        200,
        {
            "name": "many",
            "versions": ["1", "2"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *SHAPE]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, *SHAPE]}],
        },
    )
    assert get(server.http, "/v2/models/net/ready") == (200, {"ready": True})
    assert get(server.http, "/v2/models/no/ready") == (404, {"ready": False})
    status, _, body = call(server.http, "POST", "/v2/repository/index", b"{}")
    assert [(m["name"], m["version"]) for m in json.loads(body)] == [
        ("many", "1"),
        ("many", "2"),
        ("net", "1"),
    ]


@pytest.mark.parametrize("count", [1, 2, LARGEST])
def test_binary_answers_are_exact(server: Running, count: int) -> None:
    x = pictures(count)
    for model, factor in (("net", 2), ("many", 20), ("many/versions/1", 10)):
        status, y = infer(server.http, model, x)
        assert status == 200
        assert np.array_equal(y, x * np.float32(factor))


def test_json_in_and_out(server: Running) -> None:
    x = pictures(1)
    entry = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.reshape(-1).tolist()}
    asked = json.dumps({"id": "mine", "inputs": [entry], "outputs": [{"name": "y"}]}).encode()
    for body, headers in ((asked, {}), (gzip.compress(asked), {"Content_Encoding": "gzip"})):
        status, found, answer = call(server.http, "POST", "/v2/models/net/infer", body, **headers)
        told = json.loads(answer)
        assert (status, told["id"], told["model_version"]) == (200, "mine", "1")
        assert "inference-header-content-length" not in found
        assert np.array_equal(np.array(told["outputs"][0]["data"], np.float32), 2 * x.reshape(-1))


@pytest.mark.parametrize(
    ("model", "shape", "status", "words"),
    [
        ("nett", (1, *SHAPE), 404, "did you mean 'net'"),
        ("many/versions/9", (1, *SHAPE), 404, "no version '9'"),
        ("net", (LARGEST + 1, *SHAPE), 400, f"takes 1 to {LARGEST}"),
        ("net", (1, 3, 4), 400, "axes"),
        ("net", (1, 3, 4, 5), 400, "on axis 3"),
        ("net", (0, *SHAPE), 400, "on axis 0"),
    ],
)
def test_what_the_model_does_not_take_is_said(
    server: Running, model: str, shape: tuple[int, ...], status: int, words: str
) -> None:
    found, told = infer(server.http, model, np.zeros(shape, np.float32))
    assert found == status
    assert words in str(told)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"\xff\xfe", b"{}" * 1000, b"[" * 50_000])
def test_no_body_breaks_it(server: Running, body: bytes) -> None:
    status, found, answer = call(server.http, "POST", "/v2/models/net/infer", body)
    assert status == 400
    assert found["content-type"] == "application/json"
    assert json.loads(answer)["error"]


def test_too_large_a_body_is_refused_whatever_its_header_says(server: Running) -> None:
    status, told = infer(server.http, "net", np.zeros((600, *SHAPE), np.float32))
    assert status == 413
    assert "--max-request" in str(told)

    def endless() -> Iterator[bytes]:
        yield from (b"x" * 10_000 for _ in range(20))

    connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=30)
    try:
        connection.request(
            "POST",
            "/v2/models/net/infer",
            endless(),
            headers={"Transfer-Encoding": "chunked"},
            encode_chunked=True,
        )
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server had heard enough before all was sent
    finally:
        connection.close()


@pytest.mark.parametrize("stops", [True, False], ids=["stops", "ends"])
def test_a_body_that_stops_coming_is_given_up(stops: bool) -> None:
    parts = [b"abc", b"def"]

    async def receive() -> dict[str, object]:
        if not parts:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": parts.pop(0), "more_body": stops or bool(parts)}

    request = Request({"type": "http", "headers": [(b"content-length", b"100")]}, receive)
    if not stops:
        assert asyncio.run(_body(request, 1000, 0.2)) == b"abcdef"
        return
    with pytest.raises(SlowClientError, match=r"did not come within 0\.2 seconds \(--timeout\)"):
        asyncio.run(_body(request, 1000, 0.2))


def test_other_methods_and_paths(server: Running) -> None:
    assert call(server.http, "GET", "/v2/models/net/infer")[0] == 405
    assert call(server.http, "GET", "/nothing/here")[0] == 404


def test_metrics_count_requests_batches_and_no_strangers_names(server: Running) -> None:
    def total(name: str, labels: str) -> float:
        text = call(server.http, "GET", "/metrics")[2].decode()
        found = re.search(rf"^{name}{{{labels}}} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    ok = 'model="net",outcome="ok",protocol="http",version="1"'
    before = total("scconv_requests_total", ok), total("scconv_batch_samples_sum", 'model="net",version="1"')
    infer(server.http, "net", pictures(3))
    infer(server.http, "stranger", pictures(1))
    after = total("scconv_requests_total", ok), total("scconv_batch_samples_sum", 'model="net",version="1"')
    assert (after[0] - before[0], after[1] - before[1]) == (1, 3)
    text = call(server.http, "GET", "/metrics")[2].decode()
    assert "stranger" not in text
    assert 'model="(unknown)",outcome="not_found"' in text
    assert 'scconv_model_ready{model="many",version="2"} 1.0' in text
