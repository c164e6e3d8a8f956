"""reopen: a bundle on disk -> the artifact and graph that ``verify`` takes, its samples, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from scconv_deploy import tensorrt_options
from scconv_deploy.artifacts import BuiltArtifact, Calibration, ShapeBounds, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Form, GateForm, Precision
from scconv_deploy.errors import CapabilityError, InputError, first_line
from scconv_deploy.graph.fingerprint import fingerprint
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.dtypes import numpy_dtype
from scconv_deploy.runtime.golden import read_golden, read_own
from scconv_deploy.runtime.manifest import check_hashes, read_manifest
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tuning.record import style_from_json, styles_from_json
from scconv_deploy.verdicts import GoldenSamples

GRAPH = "model.onnx"
TRACERS = ("scconv-deploy", "torch", "onnx", "onnxscript", "onnxsim")
"""What makes a graph of a model, by the names under which a manifest has their versions."""


@dataclass(frozen=True, slots=True)
class Traced:
    """The graph before Q/DQ, which a bundle does not hold: its fingerprint (None where the bundle has none), the
    SHA-256 of the model that it was traced from, and the versions of the tools."""

    fingerprint: str | None = None
    source: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reopened:
    """A bundle read back. ``config`` holds what decides the graph (target, precision, opset, gate, I/O type);
    with ``style``, and ``styles`` by block path where the blocks were autotuned, the user's module is lowered again
    as it was lowered for the bundle. ``has_real_samples``: its golden inputs were the user's, so that the task's
    metric means something on them. ``trace`` is what is known of the graph that a quantised one was made from."""

    built: BuiltArtifact
    graph: TracedGraph
    golden: GoldenSamples
    config: ExportConfig
    style: GraphStyle
    has_real_samples: bool
    styles: Mapping[str, GraphStyle] = field(default_factory=dict)
    trace: Traced = field(default_factory=Traced)


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
    try:
        return _reopened(path, manifest)
    # Which entries there are depends on what was built; a stranger's manifest may hold anything in their place.
    except (LookupError, TypeError, ValueError, AttributeError, DecodeError) as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{path} cannot be read back, its manifest or {GRAPH} is damaged ({why})") from error


def _reopened(path: Path, manifest: Mapping[str, Any]) -> Reopened:
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
    golden = GoldenSamples(inputs, outputs, read_own(path))
    real = manifest.get("samples") == "real"
    style = style_from_json(manifest.get("style") or {})
    styles = styles_from_json(manifest.get("autotune"))
    return Reopened(built, graph, golden, _config(manifest), style, real, styles, _traced(manifest))


def must_trace_alike(opened: Reopened, again: TracedGraph, model: Path, sha256: str | None) -> None:
    """Compare the model as it is traced now with what the bundle's graph was quantised from.

    A model of another file may well be another model, which the comparison has to say; the same file that gives
    another graph says that tracing has changed, and so may other versions of the tools.

    Raises:
        CapabilityError: the bundle's codes cannot be judged by the graph that is traced now.
    """
    then = opened.trace
    if then.fingerprint is None or fingerprint(again.model) == then.fingerprint:
        return
    now = {name: _installed(name) for name in TRACERS if name in then.versions}
    changed = [f"{n} {then.versions[n]}, now {v}" for n, v in now.items() if then.versions[n] != v]
    if not changed and sha256 != then.source:
        return
    raise CapabilityError(
        f"{model} is traced to another graph here than the one that this bundle was quantised from"
        + (f" (it was made with {'; '.join(changed)})" if changed else "")
        + ", so its codes cannot be judged: export it again, or verify it without MODEL, on its golden samples"
    )


def _traced(manifest: Mapping[str, Any]) -> Traced:
    versions = manifest.get("tool_versions") or {}
    return Traced(
        manifest.get("traced"),
        (manifest.get("source") or {}).get("sha256"),
        {str(name): str(found) for name, found in versions.items()},
    )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


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
        variant=str(manifest["variant"]) if manifest.get("variant") else None,
        simplify=bool(manifest.get("simplify", "--no-simplify" not in str(manifest.get("reproduce")))),
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
