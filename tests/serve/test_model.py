"""What a bundle's manifest says, in the protocol's words, and requests that do not fit together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime import tensorrt
from scconv_deploy.runtime.nvidia_driver import NoGpu
from scconv_deploy.serve.metrics import Metrics
from scconv_deploy.serve.model import Model, open_model
from scconv_deploy.serve.settings import BatchLimits
from tests.serve.bundles import LARGEST, SHAPE, pictures, write_bundle


def opened(path: Path, most: int = 16) -> Model:
    return open_model("net", 1, path, BatchLimits(max_batch=most), Metrics().observer("net", 1), threads=1)


def test_a_free_batch_is_shared_up_to_the_bundles_own_limit(tmp_path: Path) -> None:
    model = opened(write_bundle(tmp_path / "net"), most=1000)
    assert model.max_batch == LARGEST
    assert [(t.name, t.datatype, t.shape) for t in model.inputs] == [("x", "FP32", (-1, *SHAPE))]
    answer = model.infer({"x": pictures(2)}, 10.0).result(10.0)
    assert np.array_equal(answer.outputs["y"], 2 * pictures(2))
    model.close(10.0)
    assert not model.ready


def test_a_fixed_batch_runs_one_request_at_a_time(tmp_path: Path) -> None:
    model = opened(write_bundle(tmp_path / "net", batch=2))
    assert model.max_batch == 1
    assert model.inputs[0].shape == (2, *SHAPE)
    assert model.infer({"x": pictures(2)}, 10.0).result(10.0).outputs["y"].shape == (2, *SHAPE)
    with pytest.raises(InputError, match="on axis 0"):
        model.infer({"x": pictures(1)}, 10.0)
    model.close(10.0)


def test_an_engine_that_cannot_run_here_is_served_by_its_graph_only_where_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "probe", lambda: NoGpu("no NVIDIA GPU on this machine"))
    folder = write_bundle(tmp_path / "net")
    (folder / "model.engine").write_bytes(b"plan")
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(b"plan").hexdigest()
    manifest |= {"runtime": "tensorrt-rtx", "artifact": "model.engine"}
    manifest["files"]["model.engine"] = {"sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    observer = Metrics().observer("net", 1)
    with pytest.raises(CapabilityError, match="no NVIDIA GPU on this machine"):
        open_model("net", 1, folder, BatchLimits(), observer)
    model = open_model("net", 1, folder, BatchLimits(), observer, threads=1, fallback="onnx")
    answer = model.infer({"x": pictures(2)}, 10.0).result(10.0)
    assert np.array_equal(answer.outputs["y"], 2 * pictures(2))
    model.close(10.0)
