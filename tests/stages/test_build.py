"""An exporter's promises are checked: files that exist, lie in the folder, and have the asked precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from scconv_deploy.artifacts import BuiltArtifact, TracedGraph
from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Progress, Silence
from scconv_deploy.errors import BuildError, VerificationError
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import build
from tests.stages.small import CONFIG, built_in, ready
from tests.stages.test_simplify import graph

Fault = Callable[[BuiltArtifact], BuiltArtifact]


class Faulty:
    """Writes a good artifact, then lets ``fault`` spoil it."""

    target = "onnx"
    summary = "for tests"
    dynamic_batch = True

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def check(self, config: ExportConfig) -> tuple[str, ...]:
        return ()

    def style(self, config: ExportConfig) -> GraphStyle:
        return GraphStyle()

    def build(
        self, graph: TracedGraph, config: ExportConfig, folder: Path, progress: Progress
    ) -> BuiltArtifact:
        return self.fault(built_in(folder, graph))

    def versions(self) -> Mapping[str, str]:
        return {}


def missing(built: BuiltArtifact) -> BuiltArtifact:
    built.primary.unlink()
    return built


def empty(built: BuiltArtifact) -> BuiltArtifact:
    built.primary.write_bytes(b"")
    return built


def elsewhere(built: BuiltArtifact) -> BuiltArtifact:
    other = built.primary.parent.parent / "model.onnx"
    built.primary.rename(other)
    return replace(built, files=(other,))


def a_folder(built: BuiltArtifact) -> BuiltArtifact:
    built.primary.unlink()
    built.primary.mkdir()
    return built


def second_file_missing(built: BuiltArtifact) -> BuiltArtifact:
    return replace(built, files=(built.primary, built.primary.with_name("weights.bin")))


def run(fault: Fault, folder: Path, source: TracedGraph | None = None) -> BuiltArtifact:
    (folder / "work").mkdir()
    return build.run(Faulty(fault), source or graph(), CONFIG, folder / "work", Silence())


def test_a_good_build_is_handed_on(tmp_path: Path) -> None:
    built = run(lambda made: made, tmp_path)
    assert built.primary.read_bytes() == graph().model.SerializeToString()


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (missing, "model.onnx"),
        (empty, "model.onnx"),
        (elsewhere, "model.onnx"),
        (a_folder, "model.onnx"),
        (second_file_missing, "weights.bin"),
    ],
)
def test_files_that_are_not_there_are_refused(fault: Fault, name: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"the onnx exporter left no {name}"):
        run(fault, tmp_path)


def test_another_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="fp32 was asked for, but fp16 was built"):
        run(lambda made: replace(made, precision_built="fp16"), tmp_path)


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ({"convolutions": "fp16"}, "2: its convolutions should be computed in fp32, and fp16 was built"),
        (
            {"convolutions": "fp32", "gate": "fp16"},
            "2: its gate should be computed in fp32, and fp16 was built",
        ),
        ({"fuse": "bf16"}, "2: its fuse should be computed in fp32, and bf16 was built"),
    ],
)
def test_another_precision_in_one_block_is_refused(roles: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=words):
        run(lambda made: replace(made, precision_per_block={"2": roles}), tmp_path, ready().graph)


def test_every_block_as_the_graph_has_it_is_handed_on(tmp_path: Path) -> None:
    roles = {"2": {"convolutions": "fp32", "gate": "fp32", "fuse": "fp32"}}
    built = run(lambda made: replace(made, precision_per_block=roles), tmp_path, ready().graph)
    assert built.precision_per_block == roles
