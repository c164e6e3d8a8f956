"""A bundle -> what a Kubernetes cluster with KServe needs: an InferenceService, and an image that serves bundles.

The image holds no model: KServe mounts it at ``/mnt/models`` from ``storageUri``. What must be filled in is in capital
letters. JSON is YAML, so the manifest is written as JSON. Never run on a cluster here: unproved.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scconv_deploy.errors import InputError
from scconv_deploy.packaging.label import sign
from scconv_deploy.runtime.manifest import check_hashes, read_manifest
from scconv_deploy.workspace import workspace

MOUNTED = "/mnt/models"
PORTS = {"h2c": 8001, "http": 8080}
RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt cuda-bindings",
    "tensorrt-rtx": "tensorrt-rtx cuda-bindings",
}
SERVER = "numpy typer rich filelock psutil starlette uvicorn httptools grpcio protobuf prometheus-client"
FILL_IN_IMAGE, FILL_IN_STORAGE = "REGISTRY/SCCONV-SERVE:TAG", "pvc://CLAIM/PATH-OF-THE-BUNDLE"


def write_kserve(bundle: Path, folder: Path, *, force: bool = False) -> Path:
    """Write ``inference-service.yaml`` and ``Dockerfile`` into ``folder``.

    Raises:
        InputError: not a bundle, altered, or a runtime that is not known here; or the folder exists.
    """
    manifest = read_manifest(bundle)
    check_hashes(bundle, manifest)
    runtime = str(manifest["runtime"])
    if runtime not in RUNTIMES:
        raise InputError(f"no image is known for {runtime} bundles; known: {', '.join(RUNTIMES)}")
    with workspace(folder, force) as space:
        service = json.dumps(inference_service(bundle.resolve().name, runtime), indent=2)
        (space.folder / "inference-service.yaml").write_text(service + "\n", encoding="utf-8")
        (space.folder / "Dockerfile").write_text(dockerfile(runtime), encoding="utf-8")
        sign(space.folder, "kserve", manifest)
        space.promote(force)
    return folder


def inference_service(name: str, runtime: str) -> dict[str, Any]:
    """The ``serving.kserve.io/v1beta1`` object."""
    container: dict[str, Any] = {
        "name": "kserve-container",
        "image": FILL_IN_IMAGE,
        "args": [
            *(MOUNTED, "--name", name, "--host", "0.0.0.0"),
            *("--port", str(PORTS["http"]), "--grpc-port", str(PORTS["h2c"])),
        ],
        "env": [{"name": "STORAGE_URI", "value": FILL_IN_STORAGE}],
        "ports": [{"name": "http", "containerPort": PORTS["http"], "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": PORTS["http"]}},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": PORTS["http"]}},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    }
    if runtime.startswith("tensorrt"):
        container["resources"]["limits"] = {"nvidia.com/gpu": 1}
    label = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "model"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": label[:63]},
        "spec": {"predictor": {"minReplicas": 1, "containers": [container]}},
    }


def dockerfile(runtime: str) -> str:
    """An image without torch: the package alone, its runtime, and the server's libraries."""
    return f"""FROM python:3.11-slim
RUN pip install --no-cache-dir {SERVER} {RUNTIMES[runtime]} \\
 && pip install --no-cache-dir --no-deps scconv-deploy=={version("scconv-deploy")}
USER 65532
ENTRYPOINT ["scconv-serve"]
"""
