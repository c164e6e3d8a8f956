"""The Open Inference Protocol over HTTP, with the binary tensor extension, as a Starlette application.

Source: Open Inference Protocol, REST API. Also Triton's model repository index and ``/metrics`` (Prometheus).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scconv_deploy.serve.failures import NotFoundError, SlowClientError, TooLargeError, failure
from scconv_deploy.serve.inference import OPEN_PATHS, Inference
from scconv_deploy.serve.model import Model, TensorMetadata
from scconv_deploy.serve.wire import JSON_LENGTH, decompress, encode, parse

NAME = "scconv-serve"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
Handler = Callable[[Request], Awaitable[Response]]


def application(core: Inference, further: tuple[Route, ...] = ()) -> Starlette:
    """The application. ``further`` routes (the page) come last."""
    routes = [
        Route("/v2", _guarded(core, _server)),
        Route("/v2/health/live", _guarded(core, _live)),
        Route("/v2/health/ready", _guarded(core, _ready)),
        Route("/v2/repository/index", _guarded(core, _index), methods=["POST"]),
        Route("/metrics", _guarded(core, _metrics)),
    ]
    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        routes += [
            Route(prefix, _guarded(core, _model)),
            Route(f"{prefix}/ready", _guarded(core, _model_ready)),
            Route(f"{prefix}/infer", _guarded(core, _infer), methods=["POST"]),
        ]
    app = Starlette(routes=[*routes, *further])
    app.state.core = core
    return app


def _guarded(core: Inference, handler: Handler) -> Handler:
    """The token first, and every failure as the protocol's error object."""

    async def guarded(request: Request) -> Response:
        try:
            if request.url.path not in OPEN_PATHS:
                core.authorise(request.headers.get("authorization"))
            return await handler(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001 - the boundary: every error becomes an answer
            return _refused(error)

    return guarded


def _refused(error: Exception) -> Response:
    told = failure(error)
    headers = {} if told.retry_after_s is None else {"Retry-After": str(told.retry_after_s)}
    if told.http == 408:
        headers["Connection"] = "close"  # the rest of the body would be read as the next request
    if told.http == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": told.sentence}, told.http, headers)


def _core(request: Request) -> Inference:
    core: Inference = request.app.state.core
    return core


def _asked(request: Request) -> Model:
    return _core(request).repository.model(request.path_params["name"], request.path_params.get("version"))


async def _server(request: Request) -> Response:
    del request
    return JSONResponse({"name": NAME, "version": installed("scconv-deploy"), "extensions": EXTENSIONS})


async def _live(request: Request) -> Response:
    del request
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    ready = _core(request).ready
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _index(request: Request) -> Response:
    repository = _core(request).repository
    return JSONResponse(
        [
            {"name": name, "version": str(v), "state": "READY", "reason": ""}
            for name in repository.names()
            for v in repository.versions(name)
        ]
    )


async def _metrics(request: Request) -> Response:
    return Response(_core(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _model(request: Request) -> Response:
    model = _asked(request)
    return JSONResponse(
        {
            "name": model.name,
            "versions": [str(v) for v in _core(request).repository.versions(model.name)],
            "platform": model.platform,
            "inputs": [_described(t) for t in model.inputs],
            "outputs": [_described(t) for t in model.outputs],
        }
    )


async def _model_ready(request: Request) -> Response:
    try:
        ready = _asked(request).ready and _core(request).ready
    except NotFoundError:
        ready = False
    return JSONResponse({"ready": ready}, 200 if ready else 404)


async def _infer(request: Request) -> Response:
    core = _core(request)
    limit = core.config.max_request_bytes
    sent = await _body(request, limit, core.config.timeout_s)
    body = decompress(sent, request.headers.get("content-encoding"), limit)
    asked = parse(body, request.headers.get(JSON_LENGTH))
    done = await core.infer(
        request.path_params["name"], request.path_params.get("version"), asked, "http", dict(request.headers)
    )
    data, json_length = encode(asked, done.model.name, done.model.version, done.answer.outputs)
    if json_length is None:
        return Response(data, media_type="application/json")
    headers = {"Inference-Header-Content-Length": str(json_length)}
    return Response(data, media_type="application/octet-stream", headers=headers)


async def _body(request: Request, limit: int, timeout_s: float) -> bytes:
    """Read the body, and stop reading where it gets too large, whatever its header says, or takes too long."""
    try:
        return await asyncio.wait_for(_read(request, limit), timeout_s)
    except TimeoutError:
        raise SlowClientError(
            f"the request's body did not come within {timeout_s:g} seconds (--timeout)"
        ) from None


async def _read(request: Request, limit: int) -> bytes:
    too_large = f"the request's body is larger than the {limit} bytes this server takes (--max-request)"
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLargeError(too_large)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLargeError(too_large)
        parts.append(part)
    return b"".join(parts)


def _described(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
