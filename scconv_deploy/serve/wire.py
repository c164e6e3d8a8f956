"""HTTP bodies of the Open Inference Protocol <-> requests and answers, JSON and binary tensors.

Source: Open Inference Protocol, REST; binary tensor data extension: the header ``Inference-Header-Content-Length``
gives the length of the JSON part, behind which the tensors' bytes follow in the order of the JSON's tensors whose
parameters hold ``binary_data_size``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scconv_deploy.errors import InputError, nearest
from scconv_deploy.serve.failures import TooLargeError
from scconv_deploy.serve.tensors import checked_shape, datatype_of, from_bytes, from_json, to_bytes, to_json

JSON_LENGTH = "inference-header-content-length"
MAX_TENSORS = 1024
WINDOW_BITS = {"gzip": 31, "deflate": 15}
Timeout = float | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output to send; ``binary`` None leaves it to the protocol's default (JSON over HTTP)."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request without its protocol. ``outputs`` None: all of them, in ``binary`` or not."""

    id: str
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[Wanted, ...] | None = None
    binary: bool = False
    timeout_s: Timeout = None


def decompress(body: bytes, encoding: str | None, limit: int) -> bytes:
    """Undo ``Content-Encoding``, reading no more than ``limit`` bytes.

    Raises:
        InputError: an encoding this server does not know, or damaged data.
        TooLargeError: more comes out than is taken.
    """
    if not encoding or encoding == "identity":
        return body
    if encoding not in WINDOW_BITS:
        raise InputError(f"Content-Encoding '{encoding}' is unknown; send gzip, deflate or none")
    machine = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        plain = machine.decompress(body, limit + 1)
    except zlib.error as error:
        raise InputError(f"the body is no valid {encoding}: {error}") from error
    if len(plain) > limit:
        raise TooLargeError(f"the body is larger than {limit} bytes once decompressed")
    if not machine.eof:
        raise InputError(f"the body ends in the middle of its {encoding} data")
    return plain


def parse(body: bytes, json_length: str | None) -> InferRequest:
    """A request's body -> arrays.

    Args:
        body: decompressed.
        json_length: value of the header :data:`JSON_LENGTH`, None where all is JSON.

    Raises:
        InputError: whatever does not follow the protocol, in words.
    """
    length = _length(json_length, len(body))
    header = _json(body[:length])
    tensors = header.get("inputs")
    if not isinstance(tensors, list) or not tensors or len(tensors) > MAX_TENSORS:
        raise InputError("the request has no list of inputs")
    rest = memoryview(body)[length:]
    arrays: dict[str, np.ndarray] = {}
    for tensor in tensors:
        name, array, rest = _tensor(tensor, rest)
        if name in arrays:
            raise InputError(f"input '{name}' is given twice")
        arrays[name] = array
    if len(rest):
        raise InputError(f"{len(rest)} bytes follow the last tensor's; check the binary_data_size of each")
    parameters = _parameters(header)
    binary = bool(parameters.get("binary_data_output", False))
    return InferRequest(
        str(header.get("id", "")),
        arrays,
        _outputs(header.get("outputs"), binary),
        binary,
        _timeout(parameters),
    )


def encode(
    request: InferRequest, model: str, version: int, outputs: Mapping[str, np.ndarray]
) -> tuple[bytes, int | None]:
    """An answer's body, and the length of its JSON part where binary tensors follow (else None).

    Raises:
        InputError: an output that the model does not have, or NaN where JSON was asked for.
    """
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for want in wanted(request, outputs):
        array = outputs[want.name]
        entry: dict[str, Any] = {
            "name": want.name,
            "datatype": datatype_of(array.dtype),
            "shape": list(array.shape),
        }
        if want.binary:
            data = to_bytes(array)
            entry["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            entry["data"] = to_json(array)
        described.append(entry)
    answer: dict[str, Any] = {"model_name": model, "model_version": str(version), "outputs": described}
    if request.id:
        answer["id"] = request.id
    head = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    return b"".join([head, *tail]), len(head) if tail else None


def wanted(request: InferRequest, outputs: Mapping[str, object]) -> tuple[Wanted, ...]:
    """The outputs to send, each of which the model has.

    Raises:
        InputError: one that it does not have.
    """
    if request.outputs is None:
        return tuple(Wanted(name, request.binary) for name in outputs)
    for want in request.outputs:
        if want.name not in outputs:
            raise InputError(
                f"no output is called '{want.name}' (the model gives {', '.join(outputs)})"
                f"{nearest(want.name, outputs)}"
            )
    return request.outputs


def _length(text: str | None, size: int) -> int:
    if text is None:
        return size
    if not text.isdecimal() or int(text) > size:
        raise InputError(f"{JSON_LENGTH} is '{text}', which is no length within the body's {size} bytes")
    return int(text)


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no valid JSON: {str(error)[:120]}") from error
    if not isinstance(header, Mapping):
        raise InputError("the request must be a JSON object")
    return header


def _tensor(tensor: object, rest: memoryview) -> tuple[str, np.ndarray, memoryview]:
    if not isinstance(tensor, Mapping) or not isinstance(tensor.get("name"), str):
        raise InputError("every input must be an object with a name")
    name = str(tensor["name"])
    shape = checked_shape(name, tensor.get("shape"))
    datatype = str(tensor.get("datatype"))
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        return name, from_json(name, datatype, shape, tensor.get("data")), rest
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise InputError(f"binary_data_size of input '{name}' is {size!r}; {len(rest)} bytes are left")
    return name, from_bytes(name, datatype, shape, rest[:size]), rest[size:]


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("parameters", {})
    if not isinstance(found, Mapping):
        raise InputError("parameters must be a JSON object")
    return found


def _outputs(entries: object, binary: bool) -> tuple[Wanted, ...] | None:
    if entries is None or entries == []:
        return None
    if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) > MAX_TENSORS:
        raise InputError("outputs must be a list")
    made = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise InputError("every output must be an object with a name")
        made.append(Wanted(str(entry["name"]), bool(_parameters(entry).get("binary_data", binary))))
    return tuple(made)


def _timeout(parameters: Mapping[str, Any]) -> Timeout:
    """The request parameter ``timeout``, in microseconds as Triton has it."""
    value = parameters.get("timeout")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise InputError(f"the parameter timeout is {value!r}; give microseconds above 0")
    return value / 1e6
