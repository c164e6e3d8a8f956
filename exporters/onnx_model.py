"""``--target onnx``: the simplified graph -> ``model.onnx``, executed here by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scconv_deploy.artifacts import BuiltArtifact, Json, TracedGraph
from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Progress
from scconv_deploy.scconv.style import GraphStyle

ARTIFACT = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "onnxsim", "onnxscript")


class OnnxExporter:
    """A portable file of standard operators."""

    target = "onnx"
    summary = "portable ONNX file of standard operators; runs in ONNX Runtime"
    dynamic_batch = True

    def check(self, config: ExportConfig) -> tuple[str, ...]:
        """Everything this target needs is in the base install."""
        del config
        return ()

    def style(self, config: ExportConfig) -> GraphStyle:
        """No ``Where`` (slow in ONNX Runtime on CPU), no Concat of large tensors."""
        del config
        return GraphStyle(where_mask=False, merged_y2=True, concat_fuse=False)

    def build(
        self, graph: TracedGraph, config: ExportConfig, folder: Path, progress: Progress
    ) -> BuiltArtifact:
        """Write the file; the precision is that of the graph itself."""
        del progress
        path = folder / ARTIFACT
        path.write_bytes(graph.model.SerializeToString())
        return BuiltArtifact(
            files=(path,),
            runtime="onnxruntime",
            precision_built=config.precision.value,
            tool_versions=self.versions(),
            details={"operators": _operators(graph), "nodes": len(graph.model.graph.node)},
        )

    def versions(self) -> Mapping[str, str]:
        """Installed versions of the ONNX tools."""
        found = {}
        for package in PACKAGES:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found


def _operators(graph: TracedGraph) -> dict[str, Json]:
    counts: dict[str, int] = {}
    for node in graph.model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return {name: counts[name] for name in sorted(counts)}
