"""build: :class:`TracedGraph` -> :class:`BuiltArtifact`, by the target's exporter."""

from __future__ import annotations

from pathlib import Path

from scconv_deploy.artifacts import BuiltArtifact, TracedGraph
from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Exporter, Progress
from scconv_deploy.errors import BuildError, VerificationError
from scconv_deploy.graph.precision import CONVOLUTIONS, block_types


def run(
    exporter: Exporter, graph: TracedGraph, config: ExportConfig, folder: Path, progress: Progress
) -> BuiltArtifact:
    """Build into ``folder``; the exporter's promises are checked.

    Raises:
        BuildError: the builder refused, or left no artifact.
        VerificationError: another precision came out than was asked for, as a whole or in a block.
    """
    built = exporter.build(graph, config, folder, progress)
    for path in built.files:
        if path.parent != folder or not path.is_file() or path.stat().st_size == 0:
            raise BuildError(f"the {config.target} exporter left no {path.name}; nothing was promoted")
    if built.precision_built != config.precision.value:
        raise VerificationError(
            f"{config.precision.value} was asked for, but {built.precision_built} was built; "
            "nothing was promoted"
        )
    _must_be_as_asked(built, graph, config)
    return built


def _must_be_as_asked(built: BuiltArtifact, graph: TracedGraph, config: ExportConfig) -> None:
    """Every block as the graph has it: its convolutions in the precision, its gate and fuse as typed."""
    asked = block_types(graph.model, list(built.precision_per_block))
    for path, roles in built.precision_per_block.items():
        for role, found in roles.items():
            wanted = config.precision.value if role == CONVOLUTIONS else asked[path].get(role, found)
            if found != wanted:
                raise VerificationError(
                    f"{path or 'the block'}: its {role} should be computed in {wanted}, and {found} was built; "
                    "nothing was promoted"
                )
