"""``scconv-serve``: its options -> ServeConfig -> a server that runs until a signal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scconv_deploy.cli import options as o
from scconv_deploy.cli.outcome import Job, Manners, Outcome
from scconv_deploy.cli.requests import existing
from scconv_deploy.contracts import RunListener
from scconv_deploy.errors import CapabilityError, InputError

SERVE_EXAMPLES = """\b
Examples:
  scconv-serve model-onnx-fp32
  scconv-serve out/digits-onnx --name digits --ui
  scconv-serve bundles/small bundles/large --port 9000 --grpc-port 9001 --max-batch 8 --max-delay 2
  scconv-serve bundles/model --host 0.0.0.0 --token-file /run/secrets/token
"""

Name = Annotated[
    list[str] | None,
    typer.Option(
        "--name", metavar="NAME", help="A model's name, one per bundle. Default: its folder's name."
    ),
]
Host = Annotated[str, typer.Option("--host", help="Address to listen on. 0.0.0.0: every one.")]
Port = Annotated[int, typer.Option("--port", help="HTTP port; 0 takes a free one.")]
GrpcPort = Annotated[int, typer.Option("--grpc-port", help="gRPC port; 0 takes a free one.")]
NoGrpc = Annotated[bool, typer.Option("--no-grpc", help="HTTP only.")]
MaxBatch = Annotated[
    int, typer.Option("--max-batch", help="Most samples in one call of the engine; 1: no batching.")
]
MaxDelay = Annotated[
    float,
    typer.Option(
        "--max-delay", metavar="MS", help="How long a request may wait for others to share a batch."
    ),
]
QueueSize = Annotated[
    int,
    typer.Option("--queue-size", help="Most requests that wait per model; one more is answered with 429."),
]
Instances = Annotated[int, typer.Option("--instances", help="Calls of a model's engine at the same time.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="S", help="Time limit of a request.")]
MaxRequest = Annotated[
    float, typer.Option("--max-request", metavar="MIB", help="Largest request that is read.")
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file", metavar="FILE", help="Requests must carry this file's text as a bearer token."
    ),
]
EngineThreads = Annotated[int | None, typer.Option("--threads", help="Threads of an engine.")]
Provider = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="ONNX Runtime's provider; never replaced.")
]
Verify = Annotated[
    str,
    typer.Option(
        "--verify",
        metavar="{golden|hash|none}",
        help="Before serving: run the bundle's own samples, compare hashes only, or nothing.",
    ),
]
Fallback = Annotated[
    str | None,
    typer.Option(
        "--fallback",
        metavar="onnx",
        help="Where an engine cannot run here, run its bundle's model.onnx in ONNX Runtime. Default: refuse.",
    ),
]
Poll = Annotated[
    float, typer.Option("--poll", metavar="S", help="Look for replaced bundles so often; 0: never.")
]
Drain = Annotated[
    float, typer.Option("--drain", metavar="S", help="How long running requests may take at the end.")
]
Traces = Annotated[
    str | None,
    typer.Option("--traces", metavar="URL", help="OTLP/HTTP endpoint for OpenTelemetry spans."),
]
Ui = Annotated[bool, typer.Option("--ui", help="Also serve a page to try the models on.")]


def serve_command(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="Bundles, or folders of versions 1, 2, ...")
    ],
    name: Name = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    grpc_port: GrpcPort = 8001,
    no_grpc: NoGrpc = False,
    max_batch: MaxBatch = 16,
    max_delay: MaxDelay = 0.0,
    queue_size: QueueSize = 256,
    instances: Instances = 1,
    timeout: Timeout = 30.0,
    max_request: MaxRequest = 64.0,
    token_file: TokenFile = None,
    threads: EngineThreads = None,
    provider: Provider = None,
    verify: Verify = "golden",
    fallback: Fallback = None,
    poll: Poll = 1.0,
    drain: Drain = 20.0,
    traces: Traces = None,
    ui: Ui = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> Job:
    """Serve bundles over the Open Inference Protocol (KServe v2), HTTP and gRPC."""
    paths = tuple(existing(text, "the bundle") for text in bundles)
    token = _token(token_file)

    def work(listener: RunListener) -> Outcome:
        del listener  # its lines would stand between the log's
        try:
            from scconv_deploy.serve import logs
            from scconv_deploy.serve.server import Started, serve
            from scconv_deploy.serve.settings import BatchLimits, ServeConfig
        except ImportError as error:
            raise CapabilityError(
                f'the server needs {error.name}, which is not installed: pip install "scconv-deploy[serve]"'
            ) from error
        config = ServeConfig(
            bundles=paths,
            names=tuple(name or ()),
            host=host,
            port=port,
            grpc_port=None if no_grpc else grpc_port,
            batching=BatchLimits(max_batch, max_delay, queue_size, instances),
            timeout_s=timeout,
            max_request_mib=max_request,
            token=token,
            threads=threads,
            provider=provider,
            verify=verify,
            fallback=fallback,
            poll_s=poll,
            drain_s=drain,
            traces=traces,
            ui=ui,
        )
        logs.configure(quiet=quiet)

        def started(where: Started) -> None:
            models = ", ".join(f"{n} (version {v})" for n, v in where.models)
            grpc = "" if where.grpc is None else f", gRPC on port {where.grpc}"
            print(f"serving {models} on http://{where.host}:{where.http}{grpc}; Ctrl-C stops", flush=True)

        code = serve(config, started)
        return Outcome({}, _nothing_more, code)

    return Job(work, Manners(False, quiet, debug), quiet_result=True)


def _nothing_more(out: Console) -> None:
    """All was said while it served."""
    del out


def _token(file: str | None) -> str | None:
    """A file, not an option: command lines are seen by everybody on the machine."""
    if file is None:
        return None
    text = Path(existing(file, "the token file")).read_text(encoding="utf-8").strip()
    if not text:
        raise InputError(f"{file} is empty; write the token into it")
    return text
