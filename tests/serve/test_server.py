"""Starting, draining, reloading and dying, in real processes."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.cli import run
from tests.runtime.bundles import read, write_manifest
from tests.serve.bundles import pictures, write_bundle
from tests.serve.calls import call, get, infer
from tests.serve.running import Running, running

QUICK = ("--port", "0", "--no-grpc", "--threads", "1")


def log_lines(server: Running) -> list[dict[str, object]]:
    """Every line of its log, each of which must be a JSON object."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_sigterm_answers_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    """A request waits a second for others to share its batch; the signal comes meanwhile."""
    net = write_bundle(tmp_path / "net")
    found: list[tuple[int, np.ndarray | str]] = []
    with running(tmp_path / "log", str(net), *QUICK, "--max-delay", "1000") as server:
        client = threading.Thread(target=lambda: found.append(infer(server.http, "net", pictures(1))))
        client.start()
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        client.join(30)
        assert server.process.wait(30) == 0
    ((status, y),) = found
    assert status == 200
    assert np.array_equal(y, 2 * pictures(1))
    messages = [line["message"] for line in log_lines(server)]
    assert messages[0] == "serving"
    assert "draining" in messages
    assert messages[-1] == "closed"


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    net = write_bundle(tmp_path / "net")
    with running(tmp_path / "log", str(net), *QUICK) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 130


def test_a_bundle_replaced_while_requests_flow_loses_none(tmp_path: Path) -> None:
    net = write_bundle(tmp_path / "net", 2.0)
    newer = write_bundle(tmp_path / "newer", 3.0)
    with running(tmp_path / "log", str(net), *QUICK, "--poll", "0.05") as server:
        seen: list[float] = []
        wrong: list[object] = []
        stop = threading.Event()

        def client(seed: int) -> None:
            x = pictures(1 + seed % 3, seed)
            while not stop.is_set():
                status, y = infer(server.http, "net", x)
                if status == 200 and isinstance(y, np.ndarray) and np.array_equal(y, 2 * x):
                    seen.append(2.0)
                elif status == 200 and isinstance(y, np.ndarray) and np.array_equal(y, 3 * x):
                    seen.append(3.0)
                else:
                    wrong.append((status, y))

        clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for thread in clients:
            thread.start()
        time.sleep(0.2)
        net.rename(tmp_path / "old")
        newer.rename(net)
        end = time.monotonic() + 20
        while 3.0 not in seen[-1:] and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.2)
        stop.set()
        for thread in clients:
            thread.join(30)
    assert wrong == []
    assert seen[0] == 2.0
    assert seen[-1] == 3.0


def test_kill_9_and_restart_on_the_same_port(tmp_path: Path) -> None:
    net = write_bundle(tmp_path / "net")
    with running(tmp_path / "log", str(net), *QUICK) as first:
        port = first.http
        infer(port, "net", pictures(1))
        first.process.kill()
        first.process.wait()
        with pytest.raises(OSError, match="refused"):
            get(port, "/v2/health/live")
    with running(tmp_path / "log2", str(net), "--port", str(port), "--no-grpc", "--threads", "1"):
        status, y = infer(port, "net", pictures(1))
        assert status == 200
        assert np.array_equal(y, 2 * pictures(1))


def test_a_token_guards_everything_but_health(tmp_path: Path) -> None:
    net = write_bundle(tmp_path / "net")
    secret = tmp_path / "token"
    secret.write_text("open sesame\n")
    with running(tmp_path / "log", str(net), *QUICK, "--token-file", str(secret), "--ui") as server:
        assert get(server.http, "/v2/health/ready")[0] == 200
        for path in ("/v2", "/v2/models/net", "/metrics", "/ui/models"):
            assert call(server.http, "GET", path)[0] == 401
        status, told = infer(server.http, "net", pictures(1))
        assert status == 401
        assert "Authorization: Bearer" in str(told)
        assert infer(server.http, "net", pictures(1), Authorization="Bearer open sesam")[0] == 401
        assert infer(server.http, "net", pictures(1), Authorization="Bearer open sesame")[0] == 200
        assert get(server.http, "/ui/models", Authorization="Bearer open sesame")[0] == 200
    assert "sesame" not in server.log.read_text()


def test_a_queue_that_is_full_says_when_to_come_again(tmp_path: Path) -> None:
    """One request may wait, and waits a second for company that its size does not allow."""
    net = write_bundle(tmp_path / "net", batch="batch")
    limits = ("--queue-size", "1", "--max-delay", "1500", "--max-batch", "64")
    with running(tmp_path / "log", str(net), *QUICK, *limits) as server:
        client = threading.Thread(target=infer, args=(server.http, "net", pictures(1)))
        client.start()
        time.sleep(0.3)
        assert get(server.http, "/v2/health/ready")[0] == 200
        x = pictures(1)
        entry = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.reshape(-1).tolist()}
        body = json.dumps({"inputs": [entry]}).encode()
        status, headers, told = call(server.http, "POST", "/v2/models/net/infer", body)
        assert (status, headers["retry-after"]) == (429, "1")
        assert "try again soon" in json.loads(told)["error"]
        client.join(30)
        assert infer(server.http, "net", x)[0] == 200


def test_a_request_that_takes_too_long(tmp_path: Path) -> None:
    net = write_bundle(tmp_path / "net")
    with running(tmp_path / "log", str(net), *QUICK, "--max-delay", "3000", "--timeout", "0.2") as server:
        started = time.monotonic()
        status, told = infer(server.http, "net", pictures(1))
        assert status == 504
        assert "0.2 seconds" in str(told)
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("which", ["no bundle", "altered", "wrong golden", "port"])
def test_what_cannot_be_served_is_one_sentence_and_exit_2(
    which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = write_bundle(tmp_path / "net")
    arguments = [str(net), *QUICK]
    words = {
        "no bundle": "is no bundle",
        "altered": "altered or damaged",
        "wrong golden": "differs from the bundle's golden samples",
        "port": "cannot be had",
    }[which]
    if which == "no bundle":
        arguments[0] = str(tmp_path)
    if which == "altered":
        (net / "model.onnx").write_bytes(b"other")
    if which == "wrong golden":
        other = write_bundle(tmp_path / "other", 5.0)
        shutil.copy(other / "model.onnx", net / "model.onnx")
        write_manifest(net, read(net))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if which == "port":
            arguments[2] = str(taken.getsockname()[1])
        assert run("serve", arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err.splitlines()[-1]
    assert "Traceback" not in told.err
