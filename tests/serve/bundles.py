"""Bundles for the server's tests: ``y = factor * x`` over (batch, 3, 4, 4), hashes and golden samples included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.runtime.bundles import write_manifest

SHAPE = (3, 4, 4)
LARGEST = 64


def write_bundle(folder: Path, factor: float = 2.0, *, batch: int | str = "batch") -> Path:
    """A whole bundle; ``batch`` is free, or fixed at a number."""
    folder.mkdir(parents=True)
    image = [batch, *SHAPE]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", ["x", "factor"], ["y"])],
        "times",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, image)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, image)],
        [onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    size = batch if isinstance(batch, int) else 2
    x = np.random.default_rng(0).standard_normal((size, *SHAPE)).astype(np.float32)
    np.savez(folder / "samples.npz", **{"inputs.x": x, "outputs.y": x * np.float32(factor)})
    fixed = batch if isinstance(batch, int) else None
    tensor: dict[str, Any] = {"dtype": "float32", "shape": image}
    manifest = {
        "schema_version": 1,
        "artifact": "model.onnx",
        "runtime": "onnxruntime",
        "precision": {"asked": "fp32", "built": "fp32"},
        "inputs": [
            {
                "name": "x",
                **tensor,
                "minimum": [fixed or 1, *SHAPE],
                "optimum": [fixed or 1, *SHAPE],
                "maximum": [fixed or LARGEST, *SHAPE],
                "multiple_of": {},
            }
        ],
        "outputs": [{"name": "y", **tensor}],
    }
    write_manifest(folder, manifest)
    return folder


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """``count`` samples."""
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)
