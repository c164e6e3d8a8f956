"""reopen: a bundle on disk -> the artifact and graph that ``verify`` takes, and its golden samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from scconv_deploy.artifacts import BuiltArtifact, TensorSpec, TracedGraph
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.engine import check_hashes, read_golden, read_manifest
from scconv_deploy.verdicts import GoldenSamples

GRAPH = "model.onnx"


def run(path: Path) -> tuple[BuiltArtifact, TracedGraph, GoldenSamples]:
    """Read a bundle back; every file's hash is checked first.

    Whether the artifact can be executed is found out again: this may be another machine than the one that
    built it.

    Raises:
        InputError: not a bundle, incomplete, altered, or without the graph it was built from.
    """
    manifest = read_manifest(path)
    check_hashes(path, manifest)
    if not (path / GRAPH).is_file():
        raise InputError(f"{path} lacks {GRAPH}, the graph it was built from; export it again")
    artifact = path / str(manifest["artifact"])
    built = BuiltArtifact(
        files=(artifact,),
        runtime=str(manifest["runtime"]),
        precision_built=str(manifest["precision"]["built"]),
        tool_versions={},
        not_executed=_why_not_here(str(manifest["runtime"]), artifact),
    )
    blocks = manifest["recognition"]["blocks"]
    graph = TracedGraph(
        model=onnx.load(str(path / GRAPH)),
        inputs=tuple(tensor_spec(i) for i in manifest["inputs"]),
        outputs=tuple(tensor_spec(o) for o in manifest["outputs"]),
        opset=int(manifest["opset"]),
        block_paths=tuple(str(b["path"]) for b in blocks),
    )
    inputs, outputs = read_golden(path)
    return built, graph, GoldenSamples(inputs, outputs)


def tensor_spec(data: Mapping[str, Any]) -> TensorSpec:
    """A TensorSpec from its JSON form."""
    return TensorSpec(
        name=str(data["name"]),
        dtype=str(np.dtype(data["dtype"])),
        shape=tuple(data["shape"]),
        minimum=tuple(data.get("minimum", ())),
        optimum=tuple(data.get("optimum", ())),
        maximum=tuple(data.get("maximum", ())),
        multiple_of={int(axis): int(m) for axis, m in data.get("multiple_of", {}).items()},
    )


def _why_not_here(runtime: str, artifact: Path) -> str | None:
    try:
        with open_runner(runtime, artifact):
            return None
    except CapabilityError as error:
        return f"not executed: {error}"
