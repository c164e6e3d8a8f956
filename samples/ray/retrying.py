"""A client that sends a request again where a replica died with it: inference changes nothing, so that is safe."""

from __future__ import annotations

import http.client
import json
import time

import numpy as np

AGAIN = (429, 500, 502, 503, 504)


def infer(port: int, model: str, name: str, x: np.ndarray, patience_s: float = 60.0) -> np.ndarray:
    """One float32 input to one float32 output, over HTTP with binary tensors.

    Raises:
        TimeoutError: no answer within ``patience_s`` seconds, however often it was tried.
        ValueError: the server refuses the request, and would again.
    """
    tensor = {
        "name": name,
        "shape": x.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": x.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", f"/v2/models/{model}/infer", head + x.tobytes(), headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200:
                length = int(answer.headers["Inference-Header-Content-Length"])
                shape = json.loads(body[:length])["outputs"][0]["shape"]
                return np.frombuffer(body[length:], np.float32).reshape(shape)
            if answer.status not in AGAIN:
                raise ValueError(body.decode(errors="replace"))
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise TimeoutError(f"no answer within {patience_s:g} seconds")
