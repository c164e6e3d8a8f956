"""HTTP bodies: parsed, encoded, compressed, and every way they can be wrong."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scconv_deploy.errors import InputError, ScconvDeployError
from scconv_deploy.serve.failures import TooLargeError
from scconv_deploy.serve.wire import InferRequest, Wanted, decompress, encode, parse

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def tensor(**more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 3], "datatype": "FP32", **more}


def body(*inputs: dict[str, Any], tail: bytes = b"", **more: Any) -> tuple[bytes, str]:
    head = json.dumps({"inputs": list(inputs), **more}).encode()
    return head + tail, str(len(head))


def test_json_and_binary_say_the_same() -> None:
    plain = parse(body(tensor(data=X.tolist()), id="7")[0], None)
    raw = parse(*body(tensor(parameters={"binary_data_size": 24}), tail=X.tobytes()))
    assert (plain.id, raw.id) == ("7", "")
    assert np.array_equal(plain.inputs["x"], X)
    assert np.array_equal(raw.inputs["x"], X)
    assert plain.outputs is None
    assert not plain.binary


def test_outputs_and_parameters() -> None:
    asked = parse(
        body(
            tensor(data=X.tolist()),
            outputs=[{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}],
            parameters={"binary_data_output": True, "timeout": 250_000},
        )[0],
        None,
    )
    assert asked.outputs == (Wanted("y", True), Wanted("z", False))
    assert asked.timeout_s == 0.25


def test_an_answer_in_both_forms() -> None:
    request = InferRequest("7", {}, (Wanted("y", True), Wanted("z", False)))
    data, length = encode(request, "net", 3, {"z": np.array([1, 2]), "y": X, "unasked": X})
    assert length is not None
    head = json.loads(data[:length])
    assert (head["model_name"], head["model_version"], head["id"]) == ("net", "3", "7")
    assert [o["name"] for o in head["outputs"]] == ["y", "z"]
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 24}
    assert head["outputs"][1]["data"] == [1, 2]
    assert data[length:] == X.tobytes()
    whole, length = encode(InferRequest("", {}), "net", 3, {"y": X})
    assert length is None
    assert json.loads(whole)["outputs"][0]["data"] == X.reshape(-1).tolist()
    with pytest.raises(InputError, match="did you mean 'y1'"):
        encode(InferRequest("", {}, (Wanted("y2", False),)), "net", 1, {"y1": X})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((b"{", None), "no valid JSON"),
        ((b"[" * 100_000, None), "no valid JSON"),
        ((b"[]", None), "must be a JSON object"),
        ((b"{}", None), "no list of inputs"),
        (body(), "no list of inputs"),
        ((body({"name": 3})[0], None), "an object with a name"),
        ((body(tensor(data=X.tolist()), tensor(data=X.tolist()))[0], None), "given twice"),
        (body(tensor(parameters={"binary_data_size": 24}), tail=b"short"), "5 bytes are left"),
        (body(tensor(parameters={"binary_data_size": -1})), "binary_data_size"),
        (body(tensor(parameters=[])), "parameters must be"),
        (body(tensor(data=X.tolist()), tail=b"more"), "4 bytes follow"),
        ((b"{}", "9"), "no length within"),
        ((b"{}", "-1"), "no length within"),
        ((body(tensor(data=X.tolist()), outputs=3)[0], None), "outputs must be a list"),
        ((body(tensor(data=X.tolist()), outputs=[3])[0], None), "every output"),
        ((body(tensor(data=X.tolist()), parameters={"timeout": 0})[0], None), "microseconds"),
    ],
)
def test_what_does_not_follow_the_protocol_is_a_sentence(given: tuple[bytes, str | None], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(*given)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5)))
def test_random_bytes_never_surprise(data: bytes, length: str | None) -> None:
    with contextlib.suppress(ScconvDeployError):
        parse(data, length)


def test_compressed_bodies_and_bombs() -> None:
    plain = b"x" * 1000
    assert decompress(plain, None, 10) == plain  # its length was checked while it was read
    assert decompress(gzip.compress(plain), "gzip", 1000) == plain
    assert decompress(zlib.compress(plain), "deflate", 1000) == plain
    with pytest.raises(TooLargeError, match="once decompressed"):
        decompress(gzip.compress(b"\0" * 10**7), "gzip", 1000)
    with pytest.raises(InputError, match="no valid gzip"):
        decompress(plain, "gzip", 1000)
    with pytest.raises(InputError, match="ends in the middle"):
        decompress(gzip.compress(plain)[:-12], "gzip", 1000)
    with pytest.raises(InputError, match="'br' is unknown"):
        decompress(plain, "br", 1000)
