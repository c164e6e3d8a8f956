"""HTTP calls to a server under test, with the standard library only."""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np


def call(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by small name, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def get(port: int, path: str, **headers: str) -> tuple[int, Any]:
    """Status and JSON."""
    status, _, body = call(port, "GET", path, None, **headers)
    return status, json.loads(body)


def infer(port: int, model: str, x: np.ndarray, **headers: str) -> tuple[int, np.ndarray | str]:
    """The first output, or the error's sentence."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": list(x.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": x.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    more = {"Inference_Header_Content_Length": str(len(head)), **headers}
    path = f"/v2/models/{model}/infer"
    status, found, body = call(port, "POST", path, head + x.tobytes(), **more)
    if status != 200:
        return status, str(json.loads(body)["error"])
    length = int(found["inference-header-content-length"])
    output = json.loads(body[:length])["outputs"][0]
    return status, np.frombuffer(body[length:], np.float32).reshape(output["shape"])
