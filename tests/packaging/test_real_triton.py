"""The generated repository, served by the real tritonserver that NVIDIA's wheel ``nvidia-pytriton`` bundles.

Its python backend needs numpy below 2, so it lives in an environment of its own, made here with pip (some 500 MB).
``SCCONV_PYTRITON`` may name such an environment's folder, which is then used as it is.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.pipeline import run_export
from scconv_deploy.runtime.golden import read_golden

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "samples" / "digits" / "model.pt"
PACKAGES = ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime==1.20.1", "ml_dtypes")
READY_S = 90.0

pytestmark = pytest.mark.slow
http = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")


def environment(folder: Path) -> Path:
    """Site-packages of an environment with tritonserver, onnxruntime and numpy."""
    given = os.environ.get("SCCONV_PYTRITON")
    home = Path(given) if given else folder / "env"
    if not given:
        venv.create(home, with_pip=True)
        done = subprocess.run(
            [home / "bin" / "pip", "install", "-q", *PACKAGES], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"nvidia-pytriton cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return next((home / "lib").glob("python3*")) / "site-packages"


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def test_the_python_backend_answers_with_the_golden_outputs(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    config = ExportConfig("onnx", out=out, verify=False, packages=("triton-python",))
    run_export(MODEL, config, Silence())
    site = environment(tmp_path)
    server = tmp_path / "tritonserver"
    shutil.copytree(site / "pytriton" / "tritonserver", server, ignore=shutil.ignore_patterns("*_stubs"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = (
        site / "pytriton" / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub"
    )
    shutil.copy(stub, server / "backends" / "python")
    port = free_port()
    command = [
        *(str(server / "bin" / "tritonserver"), f"--model-repository={tmp_path / 'digits-triton-python'}"),
        *(f"--backend-directory={server / 'backends'}", "--http-address=127.0.0.1", f"--http-port={port}"),
        *("--allow-grpc=false", "--allow-metrics=false", "--disable-auto-complete-config"),
    ]
    paths = os.pathsep.join(str(p) for p in (ROOT, site))
    # Its Python finds packages as any does: without this it would take numpy 2 from here, and with that the python
    # backend answers with empty tensors.
    known = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONHOME")}
    known |= {
        "PATH": os.pathsep.join((str(site.parents[2] / "bin"), os.defpath)),
        "PYTHONPATH": paths,
        "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=known, stdout=log, stderr=log)
    try:
        with http.InferenceServerClient(f"127.0.0.1:{port}") as client:
            _wait(client, process, tmp_path / "log")
            inputs, outputs = read_golden(out)
            image = inputs["image"]
            given = http.InferInput("image", list(image.shape), "FP32")
            given.set_data_from_numpy(image)
            answer = client.infer("digits", [given]).as_numpy("output")
            assert np.abs(answer - outputs["output"]).max() < 1e-3
            assert client.get_model_config("digits")["backend"] == "python"
            wrong = http.InferInput("image", [1, 1, 8, 9], "FP32")
            wrong.set_data_from_numpy(np.zeros((1, 1, 8, 9), np.float32))
            with pytest.raises(Exception, match=r"shape|dims"):
                client.infer("digits", [wrong])
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(client: http.InferenceServerClient, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if client.is_server_ready() and client.is_model_ready("digits"):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready: {log.read_text()[-3000:]}")
