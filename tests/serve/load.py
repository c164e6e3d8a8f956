"""A server under load: many clients, mixed batch sizes, every answer compared with the engine's own.

* 64 clients, 20,000 requests of 1 to 8 samples: wrong, lost, requests per second, p50 and p99, growth of the
  server's memory after warm-up;
* the same clients with single samples, with dynamic batching and without (``--max-batch 1``);
* one client, binary over HTTP and gRPC: what the server adds to the engine's own call (p50);
* ``kill -9`` and a restart under load: when the last error came.

    python -m tests.serve.load [--requests 20000] [--clients 64]

About a minute. Writes ``tests/bench/results/serve.json``. All traffic stays on this machine's loopback address.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

import scconv_deploy
from scconv_deploy.artifacts import Json
from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.pipeline import run_export
from tests.bench.machine import load_average, write_results
from tests.serve.grpc_calls import timed_calls, timed_empty_calls
from tests.serve.running import Running, running

MODEL = Path(__file__).parents[2] / "samples" / "digits" / "model.pt"
SIZES = (1, 2, 4, 8)
DISTINCT = 64
PORTS = ("--port", "0", "--grpc-port", "0", "--threads", "1", "--quiet")


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0
    refused: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """A request ready to send, and its right answer."""

    given: np.ndarray
    body: bytes
    answer: np.ndarray


def cases(bundle: Path, sizes: Sequence[int]) -> list[Case]:
    """Requests of these sizes with the engine's own outputs."""
    made = []
    with scconv_deploy.open(bundle, threads=1) as engine:
        for n in range(DISTINCT):
            x = np.random.default_rng(n).random((sizes[n % len(sizes)], 1, 8, 8), np.float32)
            made.append(Case(x, _request(x), np.asarray(engine(x))))
    return made


def _request(x: np.ndarray) -> bytes:
    entry = {
        "name": "image",
        "shape": list(x.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": x.nbytes},
    }
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    lines = (
        "POST /v2/models/digits/infer HTTP/1.1",
        "Host: localhost",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + x.nbytes}",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + head + x.tobytes()


def is_right(tensor: np.ndarray, answer: np.ndarray) -> bool:
    """Whether a flat answer is the engine's own."""
    return tensor.size == answer.size and np.allclose(
        tensor.reshape(answer.shape), answer, rtol=1e-4, atol=1e-4
    )


def wrong_answers(answers: Sequence[np.ndarray], made: Sequence[Case]) -> int:
    """How many of the answers to the cases in turn are not the engine's own."""
    return sum(not is_right(answer, made[n % len(made)].answer) for n, answer in enumerate(answers))


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, case: Case) -> tuple[int, bool]:
    """Status, and whether the answer is right."""
    writer.write(case.body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    body = await reader.readexactly(int(headers["content-length"]))
    status = int(lines[0].split()[1])
    if status != 200:
        return status, False
    tensor = np.frombuffer(body[int(headers["inference-header-content-length"]) :], np.float32)
    return status, is_right(tensor, case.answer)


async def _client(port: int, work: asyncio.Queue[Case], tally: Tally, end: float) -> None:
    """Ask until the work is done; where the server is away, try again until ``end``."""
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while not work.empty():
        case = work.get_nowait()
        started = time.perf_counter()
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", port)
            status, right = await _ask(*streams, case)
        except (OSError, asyncio.IncompleteReadError):
            tally.lost += 1
            streams = None
            if time.monotonic() > end:
                return
            await asyncio.sleep(0.02)
            continue
        tally.seconds.append(time.perf_counter() - started)
        tally.samples += len(case.answer)
        tally.refused += status in (429, 503)
        tally.wrong += status == 200 and not right
        tally.lost += status not in (200, 429, 503)
    if streams is not None:
        streams[1].close()


async def _flood(port: int, todo: Sequence[Case], clients: int) -> tuple[Tally, float]:
    work: asyncio.Queue[Case] = asyncio.Queue()
    for case in todo:
        work.put_nowait(case)
    tally, started = Tally(), time.perf_counter()
    end = time.monotonic() + 300
    await asyncio.gather(*(_client(port, work, tally, end) for _ in range(clients)))
    return tally, time.perf_counter() - started


def flood(server: Running, made: Sequence[Case], requests: int, clients: int) -> dict[str, Json]:
    """Send so many requests from so many clients at once."""
    todo = [made[i % len(made)] for i in range(requests)]
    tally, seconds = asyncio.run(_flood(server.http, todo, clients))
    return {
        "requests": requests,
        "clients": clients,
        "wrong": tally.wrong,
        "lost": tally.lost,
        "refused": tally.refused,
        "requests_per_s": round(len(tally.seconds) / seconds, 1),
        "samples_per_s": round(tally.samples / seconds, 1),
        "p50_ms": round(float(np.percentile(tally.seconds, 50)) * 1e3, 3),
        "p99_ms": round(float(np.percentile(tally.seconds, 99)) * 1e3, 3),
    }


def mixed(bundle: Path, folder: Path, requests: int, clients: int) -> dict[str, Json]:
    """Mixed sizes, and the server's memory before and after."""
    made = cases(bundle, SIZES)
    with running(folder / "mixed.log", str(bundle), *PORTS) as server:
        process = psutil.Process(server.process.pid)
        flood(server, made, max(1, requests // 10), clients)
        before = process.memory_info().rss
        found = flood(server, made, requests, clients)
        after = process.memory_info().rss
    return {**found, "memory_mb": round(after / 1e6, 1), "memory_growth": round(after / before - 1, 4)}


def batching(bundle: Path, folder: Path, requests: int, clients: int, rounds: int = 3) -> dict[str, Json]:
    """Single samples with and without dynamic batching, in turns."""
    made = cases(bundle, (1,))
    kept: dict[str, list[dict[str, Json]]] = {"batched": [], "single": []}
    with (
        running(folder / "batched.log", str(bundle), *PORTS, "--max-batch", "32") as batched,
        running(folder / "single.log", str(bundle), *PORTS, "--max-batch", "1") as single,
    ):
        for _ in range(rounds):
            for name, server in (("batched", batched), ("single", single)):
                kept[name].append(flood(server, made, requests, clients))
    rates = {n: sorted(float(str(r["requests_per_s"])) for r in runs) for n, runs in kept.items()}
    ratio = rates["batched"][rounds // 2] / rates["single"][rounds // 2]
    return {"batched": kept["batched"][-1], "single": kept["single"][-1], "throughput_ratio": round(ratio, 3)}


def overhead(bundle: Path, folder: Path, calls: int = 1000) -> dict[str, Json]:
    """One client, one sample: what the server adds to the engine's own call, over HTTP and over gRPC."""
    made = cases(bundle, (1,))
    x = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    with (
        scconv_deploy.open(bundle, threads=1) as engine,
        running(folder / "o.log", str(bundle), *PORTS) as server,
    ):
        took = []
        for _ in range(calls):
            started = time.perf_counter()
            engine(x)
            took.append(time.perf_counter() - started)
        alone = flood(server, made, calls, 1)
        if server.grpc is None:
            raise RuntimeError(f"the server did not start gRPC: {server.log.read_text()}")
        seconds, answers = timed_calls(server.grpc, "digits", "image", [c.given for c in made], calls)
        empty = float(np.percentile(timed_empty_calls(server.grpc, calls), 50)) * 1e3
    own = float(np.percentile(took, 50)) * 1e3
    by_grpc = float(np.percentile(seconds, 50)) * 1e3
    return {
        "engine_p50_ms": round(own, 4),
        "http_p50_ms": alone["p50_ms"],
        "overhead_p50_ms": round(float(str(alone["p50_ms"])) - own, 4),
        "grpc_p50_ms": round(by_grpc, 3),
        "grpc_overhead_p50_ms": round(by_grpc - own, 4),
        "grpc_empty_call_p50_ms": round(empty, 3),
        "wrong": int(str(alone["wrong"])) + wrong_answers(answers, made),
    }


def killed(bundle: Path, folder: Path, clients: int) -> dict[str, Json]:
    """``kill -9`` in the middle of a load, and a restart on the same port."""
    made = cases(bundle, (1, 2))

    async def scenario() -> tuple[Tally, float, float]:
        with running(folder / "first.log", str(bundle), *PORTS) as first:
            port = first.http
            load = asyncio.create_task(_flood(port, [made[i % len(made)] for i in range(6000)], clients))
            await asyncio.sleep(0.8)
            first.process.kill()
            down = time.perf_counter()
            await asyncio.to_thread(first.process.wait)
        again = ("--port", str(port), "--no-grpc", "--threads", "1", "--quiet")
        context = running(folder / "second.log", str(bundle), *again)
        await asyncio.to_thread(context.__enter__)
        up = time.perf_counter()
        tally, _ = await load
        context.__exit__(None, None, None)
        return tally, down, up

    tally, down, up = asyncio.run(scenario())
    return {
        "down_s": round(up - down, 3),
        "answered": len(tally.seconds),
        "wrong": tally.wrong,
        "failed_while_down": tally.lost,
    }


def main() -> None:
    """Run all of it and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=64)
    options = parser.parse_args()
    before = load_average()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "digits"
        run_export(MODEL, ExportConfig("onnx", out=out, verify=False), Silence())
        results: dict[str, Json] = {
            "overhead": overhead(out, folder),
            "mixed": mixed(out, folder, options.requests, options.clients),
            "batching": batching(out, folder, options.requests // 4, options.clients),
            "killed": killed(out, folder, options.clients),
        }
    path = write_results(
        "serve",
        {
            "what": "scconv-serve on samples/digits, HTTP binary unless a name says gRPC; server and clients share "
            "this machine's cores",
            "load_average_before": before,
            "load_average_after": load_average(),
            **results,
        },
    )
    print(json.dumps(results, indent=2))
    print(path)


if __name__ == "__main__":
    main()
