"""``--ui``: one page on which a person tries a model, and the models' cards, from their manifests.

The page itself holds nothing of the models and needs no token; what it then asks for does.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from scconv_deploy.serve.failures import failure
from scconv_deploy.serve.inference import Inference
from scconv_deploy.serve.model import Model

PAGE = Path(__file__).with_name("page.html")
NONCE = "%NONCE%"
POLICY = "default-src 'none'; connect-src 'self'; img-src blob: data:; style-src 'nonce-{0}'; script-src 'nonce-{0}'"


def page_routes(core: Inference) -> tuple[Route, ...]:
    """``/`` and ``/ui/models``."""
    return (Route("/", _page), Route("/ui/models", _cards(core)))


async def _page(request: Request) -> Response:
    del request
    nonce = secrets.token_urlsafe(16)
    text = PAGE.read_text(encoding="utf-8").replace(NONCE, nonce)
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce)})


def _cards(core: Inference) -> Callable[[Request], Awaitable[Response]]:
    async def cards(request: Request) -> Response:
        try:
            core.authorise(request.headers.get("authorization"))
        except Exception as error:  # noqa: BLE001 - the boundary
            told = failure(error)
            return JSONResponse({"error": told.sentence}, told.http)
        names = core.repository.names()
        models = [core.repository.model(n, str(v)) for n in names for v in core.repository.versions(n)]
        return JSONResponse([card(model) for model in models])

    return cards


def card(model: Model) -> dict[str, Any]:
    """What the page shows of a model; a manifest of another tool may lack any of it."""
    manifest = model.manifest
    blocks = _part(manifest, "recognition").get("blocks") or []
    parity = _part(manifest, "verification")
    return {
        "name": model.name,
        "version": model.version,
        "inputs": [_tensor(entry) for entry in manifest["inputs"]],
        "outputs": [_tensor(entry) for entry in manifest["outputs"]],
        "facts": {
            "Source": _part(manifest, "source").get("origin"),
            "Runtime": manifest["runtime"],
            "Precision": _part(manifest, "precision").get("built"),
            "SCConv blocks": len(blocks),
            "Verified": parity.get("verdict"),
            "Result": parity.get("sentence"),
            "Made": manifest.get("created"),
            "Largest batch": model.max_batch,
        },
    }


def _part(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = manifest.get(key)
    return found if isinstance(found, Mapping) else {}


def _tensor(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": entry["name"],
        "dtype": entry["dtype"],
        "shape": entry["shape"],
        "optimum": entry.get("optimum") or [],
    }
