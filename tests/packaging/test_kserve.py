"""What the cluster is told, and that the image could serve what it is told to serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scconv_deploy.cli.serve import serve_command
from scconv_deploy.errors import InputError
from scconv_deploy.packaging.kserve import MOUNTED, dockerfile, inference_service, write_kserve
from tests.runtime.bundles import read, write_manifest
from tests.serve.bundles import write_bundle


def test_the_service_runs_our_server_on_the_mounted_bundle(tmp_path: Path) -> None:
    folder = write_kserve(write_bundle(tmp_path / "My_Net"), tmp_path / "k")
    service = json.loads((folder / "inference-service.yaml").read_text())
    assert service["kind"] == "InferenceService"
    assert service["metadata"]["name"] == "my-net"  # a DNS label
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["args"][:3] == [MOUNTED, "--name", "My_Net"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert "limits" not in container["resources"]
    assert "FROM python" in (folder / "Dockerfile").read_text()


def test_its_arguments_are_options_that_the_server_has() -> None:
    (container,) = inference_service("net", "onnxruntime")["spec"]["predictor"]["containers"]
    options = [a[2:].replace("-", "_") for a in container["args"] if a.startswith("--")]
    assert set(options) <= set(serve_command.__annotations__)
    assert options


def test_a_gpu_is_asked_for_where_the_engine_needs_one() -> None:
    (container,) = inference_service("net", "tensorrt")["spec"]["predictor"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert "torch" not in dockerfile("tensorrt")
    assert "tensorrt" in dockerfile("tensorrt")


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "net")
    write_manifest(bundle, read(bundle) | {"runtime": "abacus"})
    with pytest.raises(InputError, match="no image is known for abacus"):
        write_kserve(bundle, tmp_path / "k")
    assert not (tmp_path / "k").exists()
