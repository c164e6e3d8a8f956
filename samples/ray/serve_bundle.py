"""Ray Serve: one bundle behind the Open Inference Protocol, on as many replicas as the load wants.

Every replica opens the bundle by itself and answers with the same application that ``scconv-serve`` runs, batching
included; Ray's proxy spreads the requests and starts replicas anew that die. A request in a dying replica fails with
500 or a broken connection and must be sent again by its client: inference changes nothing, so that is safe
(``retrying.py`` does it).

    pip install "ray[serve]"
    python samples/ray/serve_bundle.py out/demo/model-onnx        # here, until Ctrl-C
    serve run serve_bundle:app bundle=/models/net                  # on a cluster (KubeRay: see README.md)
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from pathlib import Path

from ray import serve
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from scconv_deploy.serve.http import application
from scconv_deploy.serve.server import build
from scconv_deploy.serve.settings import BatchLimits, ServeConfig


@serve.deployment(
    ray_actor_options={"num_cpus": 0.5},  # below 1: several replicas fit on a small machine
    max_ongoing_requests=64,
    health_check_period_s=2,
    graceful_shutdown_timeout_s=20,
)
class Replica:
    """One process with the bundle open."""

    def __init__(self, bundle: str, name: str | None = None) -> None:
        config = ServeConfig(
            bundles=(Path(bundle),),
            names=(name,) if name else (),
            batching=BatchLimits(max_batch=16),
            threads=1,
        )
        self._core = build(config)
        self._core.repository.load()
        self._app = application(self._core)

    def check_health(self) -> None:
        """Ray asks every few seconds; an exception makes it start another replica."""
        if not self._core.ready:
            raise RuntimeError("the bundle is not served")

    async def __call__(self, request: Request) -> Response:
        """Ray gives a request and wants a response; between them stands the same application as ever."""
        status, headers, body = 500, [], bytearray()

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], message["headers"]
            else:
                body.extend(message.get("body", b""))

        await self._app(request.scope, request.receive, send)
        response = Response(bytes(body), status)
        response.raw_headers = list(headers)
        return response


def app(args: dict[str, str]) -> serve.Application:
    """For ``serve run serve_bundle:app bundle=FOLDER [name=NAME] [replicas=N] [most=N]``."""
    least, most = int(args.get("replicas", "1")), int(args.get("most", "4"))
    scaling = {"min_replicas": least, "max_replicas": max(least, most), "target_ongoing_requests": 8}
    deployment = Replica.options(autoscaling_config=scaling)
    bound: serve.Application = deployment.bind(args["bundle"], args.get("name"))
    return bound


def main() -> None:
    """Run on this machine until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    bundle = str(Path(options.bundle).resolve())
    serve.run(app({"bundle": bundle, "replicas": str(options.replicas)}), route_prefix="/")
    print(f"serving {Path(bundle).name} on http://127.0.0.1:{options.port}", flush=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with contextlib.suppress(KeyboardInterrupt):
        stop.wait()
    serve.shutdown()


if __name__ == "__main__":
    main()
