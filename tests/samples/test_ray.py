"""The Ray samples on a local cluster: Ray Data over the digits, and Ray Serve while one of two replicas is killed.

Ray (850 MB) lives in an environment of its own, made here with pip; ``SCCONV_RAY`` may name such an environment's
folder. All traffic stays on this machine.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import threading
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest

import scconv_deploy
from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.pipeline import run_export

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
PACKAGES = (
    "ray[serve,data]==2.60.0",
    *("onnxruntime==1.32.0", "numpy", "starlette", "uvicorn", "prometheus-client", "filelock", "ml_dtypes"),
)
CLIENTS = 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has Ray, and neither torch nor onnx."""
    given = os.environ.get("SCCONV_RAY")
    home = Path(given) if given else tmp_path_factory.mktemp("ray") / "env"
    if not given:
        venv.create(home, with_pip=True)
        command = [home / "bin" / "pip", "install", "-q", *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"Ray cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "digits"
    model = SAMPLES / "digits" / "model.pt"
    return run_export(model, ExportConfig("onnx", out=out, verify=False), Silence()).path


def known() -> Mapping[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{SAMPLES / 'ray'}",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def retrying() -> ModuleType:
    """The sample's own client."""
    found = importlib.util.spec_from_file_location("retrying", SAMPLES / "ray" / "retrying.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_batch_inference_answers_every_row_in_order(python: Path, bundle: Path, tmp_path: Path) -> None:
    images = SAMPLES / "digits" / "test_images.npz"
    out = tmp_path / "answers.npz"
    command = [python, SAMPLES / "ray" / "batch_inference.py", bundle, images, out]
    done = subprocess.run(command, env=known(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(images) as data, np.load(out) as answers, scconv_deploy.open(bundle, threads=1) as engine:
        wanted = np.asarray(engine(data["image"].astype(np.float32)))
        assert np.allclose(answers["output"], wanted, atol=1e-4)
        assert (answers["output"].argmax(1) == data["label"]).mean() > 0.97


def test_a_killed_replica_loses_no_request(python: Path, bundle: Path, tmp_path: Path) -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = int(made.getsockname()[1])
    command = [python, SAMPLES / "ray" / "serve_bundle.py", bundle, "--port", str(port), "--replicas", "2"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=known(), stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        assert "serving digits" in process.stdout.readline(), (tmp_path / "log").read_text()[-3000:]
        answered = _flood_and_kill(port, bundle, process.pid)
        assert answered > CLIENTS
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            child.kill()
        process.kill()
        process.wait()


def _flood_and_kill(port: int, bundle: Path, parent: int) -> int:
    """Requests from several threads; one replica is killed; how many were answered, all of them rightly."""
    client = retrying()
    with scconv_deploy.open(bundle, threads=1) as engine:
        x = [np.random.default_rng(n).random((1 + n % 3, 1, 8, 8), np.float32) for n in range(32)]
        wanted = [np.asarray(engine(one)) for one in x]
    counts, wrong, stop = [0] * CLIENTS, [], threading.Event()

    def flow(index: int) -> None:
        turn = index
        while not stop.is_set():
            answer = client.infer(port, "digits", "image", x[turn % 32])
            if not np.allclose(answer, wanted[turn % 32], atol=1e-4):
                wrong.append(turn)
            counts[index] += 1
            turn += 1

    threads = [threading.Thread(target=flow, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    victims = [p for p in psutil.Process(parent).children(recursive=True) if _is_replica(p)]
    assert len(victims) == 2
    before = sum(counts)
    victims[0].kill()
    time.sleep(5)
    stop.set()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert sum(counts) > before
    return sum(counts)


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "ServeReplica" in " ".join(process.cmdline())
    except psutil.Error:
        return False
