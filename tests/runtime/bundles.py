"""A small bundle written by hand: what the runtime needs, without the exporting half."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx


def write_model(path: Path) -> None:
    """``y = 2 x`` over (batch, 3, height, width), ``z`` the mean over height and width."""
    image = ["batch", 3, "height", "width"]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["x", "x"], ["y"]),
            onnx.helper.make_node("ReduceMean", ["x", "axes"], ["z"], keepdims=0),
        ],
        "twice",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, image)],
        [
            onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, image),
            onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["batch", 3]),
        ],
        [onnx.numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def write_samples(folder: Path, change: float = 0.0) -> None:
    """Golden samples; ``change`` is added to an output."""
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.savez(
        folder / "samples.npz",
        **{"inputs.x": x, "outputs.y": 2 * x + np.float32(change), "outputs.z": x.mean((2, 3))},
    )


def write_bundle(folder: Path) -> Path:
    """A whole bundle, hashes included."""
    folder.mkdir()
    write_model(folder / "model.onnx")
    write_samples(folder)
    entry = {
        "name": "x",
        "dtype": "float32",
        "shape": ["batch", 3, "height", "width"],
        "minimum": [1, 3, 8, 8],
        "optimum": [1, 3, 8, 8],
        "maximum": [4, 3, 32, 32],
        "multiple_of": {"2": 4, "3": 4},
    }
    manifest = {
        "schema_version": 1,
        "artifact": "model.onnx",
        "runtime": "onnxruntime",
        "inputs": [entry],
        "outputs": [{"name": "y"}, {"name": "z"}],
        "files": {},
    }
    write_manifest(folder, manifest)
    return folder


def write_manifest(
    folder: Path, manifest: dict[str, Any], names: tuple[str, ...] = ("model.onnx", "samples.npz")
) -> None:
    """Write it with the present files' hashes, as a forger would."""
    manifest["files"] = {
        n: {"sha256": hashlib.sha256((folder / n).read_bytes()).hexdigest()}
        for n in names
        if (folder / n).exists()
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def read(folder: Path) -> dict[str, Any]:
    """The manifest as it is."""
    return dict(json.loads((folder / "manifest.json").read_text()))
