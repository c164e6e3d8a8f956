"""reopen: a bundle on disk -> the artifact and graph that ``verify`` takes, its samples, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from scconv_deploy import tensorrt_options
from scconv_deploy.artifacts import BuiltArtifact, Calibration, ShapeBounds, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Form, GateForm, Precision
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.dtypes import numpy_dtype
from scconv_deploy.runtime.engine import check_hashes, read_golden, read_manifest
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tuning.record import style_from_json, styles_from_json
from scconv_deploy.verdicts import GoldenSamples

GRAPH = "model.onnx"


@dataclass(frozen=True, slots=True)
class Reopened:
    """A bundle read back. ``config`` holds what decides the graph (target, precision, opset, gate, I/O type);
    with ``style``, and ``styles`` by block path where the blocks were autotuned, the user's module is lowered again
    as it was lowered for the bundle. ``has_real_samples``: its
    golden inputs were the user's, so that the task's metric means something on them."""

    built: BuiltArtifact
    graph: TracedGraph
    golden: GoldenSamples
    config: ExportConfig
    style: GraphStyle
    has_real_samples: bool
    styles: Mapping[str, GraphStyle] = field(default_factory=dict)


def run(path: Path) -> Reopened:
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
        precision_per_block=_per_block(manifest["precision"].get("blocks")),
    )
    blocks = manifest["recognition"]["blocks"]
    graph = TracedGraph(
        model=onnx.load(str(path / GRAPH)),
        inputs=tuple(tensor_spec(i) for i in manifest["inputs"]),
        outputs=tuple(tensor_spec(o) for o in manifest["outputs"]),
        opset=int(manifest["opset"]),
        block_paths=tuple(str(b["path"]) for b in blocks),
        calibration=_calibration(manifest.get("calibration")),
    )
    inputs, outputs = read_golden(path)
    golden = GoldenSamples(inputs, outputs)
    real = manifest.get("samples") == "real"
    style = style_from_json(manifest.get("style") or {})
    styles = styles_from_json(manifest.get("autotune"))
    return Reopened(built, graph, golden, _config(manifest), style, real, styles)


def _config(manifest: Mapping[str, Any]) -> ExportConfig:
    """Bundles written before half precision existed say nothing of gate and I/O type: exact and fp32."""
    precision = manifest["precision"]
    return ExportConfig(
        target=str(manifest.get("target", "onnx")),
        precision=Precision(precision["asked"]),
        opset=int(manifest["opset"]),
        form=Form(manifest.get("form", Form.STANDARD.value)),
        gate=GateForm(manifest.get("gate", GateForm.EXACT.value)),
        io_dtype=Precision(precision.get("io", Precision.FP32.value)),
        rest=Precision(precision["rest"]) if precision.get("rest") else None,
        tensorrt=tensorrt_options.from_json(manifest.get("tensorrt")),
    )


def _calibration(data: Mapping[str, Any] | None) -> Calibration | None:
    """Ranges as they were calibrated: a file whose scales were changed since then is found out."""
    if not data:
        return None
    ranges = {str(name): (float(low), float(high)) for name, (low, high) in data["ranges"].items()}
    return Calibration(
        str(data["method"]),
        int(data["samples"]),
        str(data["rest"]),
        ranges,
        data.get("source"),
        data.get("sha256"),
    )


def _per_block(blocks: Mapping[str, Mapping[str, str]] | None) -> dict[str, dict[str, str]]:
    return {str(path): {str(k): str(v) for k, v in roles.items()} for path, roles in (blocks or {}).items()}


def tensor_spec(data: Mapping[str, Any]) -> TensorSpec:
    """A TensorSpec from its JSON form."""
    return TensorSpec(
        name=str(data["name"]),
        dtype=numpy_dtype(str(data["dtype"])).name,
        shape=tuple(data["shape"]),
        minimum=tuple(data.get("minimum", ())),
        optimum=tuple(data.get("optimum", ())),
        maximum=tuple(data.get("maximum", ())),
        multiple_of={int(axis): int(m) for axis, m in data.get("multiple_of", {}).items()},
        profiles=tuple(
            ShapeBounds(tuple(p["minimum"]), tuple(p["optimum"]), tuple(p["maximum"]))
            for p in data.get("profiles", ())
        ),
    )


def _why_not_here(runtime: str, artifact: Path) -> str | None:
    try:
        with open_runner(runtime, artifact):
            return None
    except CapabilityError as error:
        return f"not executed: {error}"
