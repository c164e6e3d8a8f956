"""The Open Inference Protocol over gRPC: the same core behind another door.

Source: Open Inference Protocol, gRPC API. Tensors travel as raw bytes (``raw_input_contents``) or as typed
contents; answers are always raw, as Triton's are.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from scconv_deploy.errors import InputError
from scconv_deploy.serve.failures import NotFoundError, failure
from scconv_deploy.serve.http import EXTENSIONS, NAME
from scconv_deploy.serve.inference import Done, Inference
from scconv_deploy.serve.messages import SERVICE, message
from scconv_deploy.serve.model import TensorMetadata
from scconv_deploy.serve.tensors import checked_shape, datatype_of, from_bytes, from_json, to_bytes
from scconv_deploy.serve.wire import InferRequest, Wanted, wanted

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
OPEN_METHODS = ("ServerLive", "ServerReady")
Answering = Callable[[Any, Any], Awaitable[Any]]


async def start_grpc(core: Inference, host: str, port: int) -> tuple[Any, int]:
    """Start serving; returns the server and its port.

    Raises:
        InputError: the port cannot be had.
    """
    limit = core.config.max_request_bytes
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not half of the requests
        ]
    )
    server.add_generic_rpc_handlers((_handlers(core),))
    where = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{where}:{port}")
    except RuntimeError as error:
        raise InputError(f"gRPC port {port} on {host} cannot be had; choose another --grpc-port") from error
    await server.start()
    return server, bound


def _handlers(core: Inference) -> Any:
    verbs: dict[str, Answering] = {
        "ServerLive": _Verbs(core).live,
        "ServerReady": _Verbs(core).ready,
        "ServerMetadata": _Verbs(core).server,
        "ModelReady": _Verbs(core).model_ready,
        "ModelMetadata": _Verbs(core).model,
        "ModelInfer": _Verbs(core).infer,
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(core, name, verb),
                request_deserializer=functools.partial(_read, name),
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, verb in verbs.items()
        },
    )


def _read(name: str, data: bytes) -> Any:
    """The message, or its error: one raised in here would reach the client as an unknown one of ours."""
    try:
        return message(f"{name}Request").FromString(data)
    except DecodeError as error:
        return InputError(f"the request is no valid {name}Request: {error}")


def _guarded(core: Inference, name: str, verb: Answering) -> Answering:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            if name not in OPEN_METHODS:
                core.authorise(dict(context.invocation_metadata() or ()).get("authorization"))
            if isinstance(request, InputError):
                raise request
            return await verb(request, context)
        except Exception as error:  # noqa: BLE001 - the boundary: every error becomes a status
            told = failure(error)
            await context.abort(getattr(grpc.StatusCode, told.grpc), told.sentence)

    return guarded


class _Verbs:
    """The service's methods: (request, context) -> response."""

    def __init__(self, core: Inference) -> None:
        self._core = core

    async def live(self, request: Any, context: Any) -> Any:
        del request, context
        return message("ServerLiveResponse")(live=True)

    async def ready(self, request: Any, context: Any) -> Any:
        del request, context
        return message("ServerReadyResponse")(ready=self._core.ready)

    async def server(self, request: Any, context: Any) -> Any:
        del request, context
        version = installed("scconv-deploy")
        return message("ServerMetadataResponse")(name=NAME, version=version, extensions=EXTENSIONS)

    async def model_ready(self, request: Any, context: Any) -> Any:
        del context
        try:
            ready = self._core.repository.model(request.name, request.version).ready and self._core.ready
        except NotFoundError:
            ready = False
        return message("ModelReadyResponse")(ready=ready)

    async def model(self, request: Any, context: Any) -> Any:
        del context
        found = self._core.repository.model(request.name, request.version)
        return message("ModelMetadataResponse")(
            name=found.name,
            versions=[str(v) for v in self._core.repository.versions(found.name)],
            platform=found.platform,
            inputs=[_described(t) for t in found.inputs],
            outputs=[_described(t) for t in found.outputs],
        )

    async def infer(self, request: Any, context: Any) -> Any:
        asked = parse(request)
        remaining = context.time_remaining()
        if remaining is not None:
            limit = min(remaining, asked.timeout_s or remaining)
            asked = InferRequest(asked.id, asked.inputs, asked.outputs, asked.binary, max(limit, 1e-3))
        carrier = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        done = await self._core.infer(request.model_name, request.model_version, asked, "grpc", carrier)
        return respond(asked, done)


def parse(request: Any) -> InferRequest:
    """A ``ModelInferRequest`` -> arrays.

    Raises:
        InputError: what does not follow the protocol, in words.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(f"{len(request.inputs)} inputs are described and {len(raw)} raw contents sent")
    arrays: dict[str, np.ndarray] = {}
    for tensor, data in itertools.zip_longest(request.inputs, raw):
        if tensor.name in arrays:
            raise InputError(f"input '{tensor.name}' is given twice")
        shape = checked_shape(tensor.name, list(tensor.shape))
        if data is not None:
            arrays[tensor.name] = from_bytes(tensor.name, tensor.datatype, shape, data)
            continue
        field = CONTENTS.get(tensor.datatype)
        if field is None:
            raise InputError(
                f"input '{tensor.name}' of datatype '{tensor.datatype}' must be sent as raw bytes"
            )
        numbers = list(getattr(tensor.contents, field))
        arrays[tensor.name] = from_json(tensor.name, tensor.datatype, shape, numbers)
    if not arrays:
        raise InputError("the request has no inputs")
    outputs = tuple(Wanted(o.name, True) for o in request.outputs) or None
    timeout = request.parameters["timeout"].int64_param if "timeout" in request.parameters else 0
    return InferRequest(request.id, arrays, outputs, True, timeout / 1e6 if timeout > 0 else None)


def respond(asked: InferRequest, done: Done) -> Any:
    """Outputs -> a ``ModelInferResponse``."""
    outputs = done.answer.outputs
    answer = message("ModelInferResponse")(
        model_name=done.model.name, model_version=str(done.model.version), id=asked.id
    )
    for want in wanted(asked, outputs):
        array = outputs[want.name]
        answer.outputs.add(name=want.name, datatype=datatype_of(array.dtype), shape=array.shape)
        answer.raw_output_contents.append(to_bytes(array))
    return answer


def _described(tensor: TensorMetadata) -> Any:
    kind = message("ModelMetadataResponse.TensorMetadata")
    return kind(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
