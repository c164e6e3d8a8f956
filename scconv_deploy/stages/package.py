"""package: everything an application and an auditor need, beside the artifact, in the workspace's folder."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from scconv_deploy import tensorrt_options
from scconv_deploy.artifacts import (
    BuiltArtifact,
    Json,
    RecognisedBlock,
    Recognition,
    SourceModel,
    StageTiming,
    TracedGraph,
)
from scconv_deploy.config import (
    QUANTISED,
    Budgets,
    ExportConfig,
    GateForm,
    Precision,
    ShapeRange,
    default_opset,
    dims,
)
from scconv_deploy.graph.fingerprint import fingerprint
from scconv_deploy.report.html import render
from scconv_deploy.report.to_json import to_json
from scconv_deploy.runtime.manifest import SCHEMA
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.shape_profiles import profile_words
from scconv_deploy.tuning.record import Tuning
from scconv_deploy.verdicts import GoldenSamples, ParityReport
from scconv_deploy.workspace import MANIFEST, sha256

SAMPLES = "samples.npz"
REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class Contents:
    """All that goes into a bundle."""

    source: SourceModel
    recognition: Recognition
    graph: TracedGraph
    built: BuiltArtifact
    parity: ParityReport | None
    golden: GoldenSamples
    stages: tuple[StageTiming, ...]
    notes: tuple[str, ...]
    style: GraphStyle = field(default_factory=GraphStyle)
    tuning: Tuning | None = None


def run(contents: Contents, config: ExportConfig, folder: Path) -> dict[str, Json]:
    """Write samples, report and manifest into ``folder`` (which holds the artifact); returns the manifest."""
    arrays = {f"inputs.{k}": v for k, v in contents.golden.inputs.items()}
    arrays.update({f"outputs.{k}": v for k, v in contents.golden.outputs.items()})
    arrays.update({f"artifact.{k}": v for k, v in contents.golden.own.items()})
    np.savez_compressed(folder / SAMPLES, **arrays)  # type: ignore[arg-type]
    manifest = _manifest(contents, config)
    manifest["files"] = _files([*contents.built.files, folder / SAMPLES])
    (folder / REPORT).write_text(render(manifest), encoding="utf-8")
    manifest["files"] = _files([*contents.built.files, folder / SAMPLES, folder / REPORT])
    text = json.dumps(manifest, indent=2, allow_nan=False, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def reproduce(source: SourceModel, config: ExportConfig) -> str:
    """The command line that makes this bundle again."""
    words = ["scconv-export", source.origin, "--target", config.target, "--precision", config.precision.value]
    if config.opset != default_opset(config.precision):
        words += ["--opset", str(config.opset)]
    words += ["--gate", config.gate.value] if config.gate is not GateForm.EXACT else []
    words += ["--io-dtype", config.io_dtype.value] if config.io_dtype is not Precision.FP32 else []
    profiled = {r.name for profile in config.profiles for r in profile}
    for shape in config.shapes:
        words += [] if shape.name in profiled else _shape_words(shape)
    words += profile_words(config.profiles)
    words += tensorrt_options.words(config.tensorrt)
    for name, value in (
        ("--factory", config.factory),
        ("--variant", config.variant),
        ("--calib", config.calib),
        ("--calib-method", config.calib_method.value if config.precision in QUANTISED else None),
        ("--rest", config.rest.value if config.rest else None),
        ("--autotune", f"{config.autotune_seconds:g}" if config.autotune_seconds else None),
        ("--compute-capability", ",".join(config.compute_capabilities) or None),
    ):
        if value is not None:
            words += [name, str(value)]
    for name in config.packages:
        words += ["--package", name]
    for trusted in config.trust:
        words += ["--trust", trusted]
    words += _budget_words(config.budgets)
    words += ["--bisect"] if config.bisect else []
    words += ["--seed", str(config.seed)] if config.seed else []
    words += [] if config.simplify else ["--no-simplify"]
    words += [] if config.verify else ["--no-verify"]
    return shlex.join(words)


def _budget_words(budgets: Budgets) -> list[str]:
    words = []
    if budgets.max_flip_rate is not None:
        words += ["--max-flip-rate", str(budgets.max_flip_rate)]
    for option, limits in (("--atol", budgets.atol), ("--rtol", budgets.rtol)):
        for name, value in limits.items():
            words += [option, f"{name}:{value}" if name else str(value)]
    if budgets.check_error_stat is not None:
        words += ["--check-error-stat", budgets.check_error_stat.value]
    return words


def _shape_words(shape: ShapeRange) -> list[str]:
    prefix = f"{shape.name}:" if shape.name else ""
    if shape.minimum == shape.maximum:
        return ["--input-shape", prefix + dims(shape.optimum)]
    return [
        f"--minShapes={prefix}{dims(shape.minimum)}",
        f"--optShapes={prefix}{dims(shape.optimum)}",
        f"--maxShapes={prefix}{dims(shape.maximum)}",
    ]


def _manifest(contents: Contents, config: ExportConfig) -> dict[str, Json]:
    source, built, graph = contents.source, contents.built, contents.graph
    return {
        "schema_version": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "target": config.target,
        "runtime": built.runtime,
        "artifact": built.primary.name,
        "inputs": to_json(graph.inputs),
        "outputs": to_json(graph.outputs),
        "samples": "real" if config.calib is not None else "random",
        "precision": {
            "asked": config.precision.value,
            "built": built.precision_built,
            "io": config.io_dtype.value,
            "blocks": to_json(built.precision_per_block),
            **({"rest": graph.calibration.rest} if graph.calibration else {}),
        },
        "calibration": to_json(graph.calibration) if graph.calibration else None,
        "gate": config.gate.value,
        "opset": graph.opset,
        "form": config.form.value,
        "style": to_json(asdict(contents.style)),
        "autotune": to_json(contents.tuning.to_json()) if contents.tuning else None,
        "variant": config.variant,
        "simplify": config.simplify,
        "traced": fingerprint(graph.unquantised.model) if graph.unquantised else None,
        "source": {
            "origin": source.origin,
            "kind": source.kind,
            "sha256": source.sha256,
            "architecture": source.architecture,
        },
        "recognition": {
            "blocks": [_block(b) for b in contents.recognition.blocks],
            "left_as_is": to_json(contents.recognition.left_as_is),
        },
        "verification": to_json(contents.parity) if contents.parity else None,
        "not_executed": built.not_executed,
        "kernel_report": to_json(built.kernel_report) if built.kernel_report else None,
        "details": to_json(dict(built.details)),
        "tool_versions": {**_versions(), **built.tool_versions},
        "stages": to_json(contents.stages),
        "notes": list(contents.notes),
        "tensorrt": tensorrt_options.asked(config.tensorrt),
        "reproduce": reproduce(source, config),
    }


def _block(block: RecognisedBlock) -> Json:
    return {
        "path": block.path,
        "variant": block.variant,
        "spec": to_json(block.spec.to_json()),
        "certificate": to_json(block.certificate),
        "parameters": to_json(dict(block.parameters)),
    }


def _files(paths: Sequence[Path]) -> Json:
    return {p.name: {"sha256": sha256(p), "size_bytes": p.stat().st_size} for p in paths}


def _versions() -> dict[str, Json]:
    found: dict[str, Json] = {"python": platform.python_version()}
    for package in ("scconv-deploy", "torch", "numpy"):
        found[package] = version(package)
    return found
