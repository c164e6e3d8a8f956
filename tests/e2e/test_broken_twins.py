"""A good export passes; every fault slipped in between lowering and verification is caught and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from scconv_deploy.contracts import Silence
from scconv_deploy.errors import EXIT_VERIFICATION_FAILED, VerificationError
from scconv_deploy.pipeline import run_export
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.spec import Y2Order
from scconv_deploy.stages import lower
from scconv_deploy.verdicts import ParityReport, Verdict
from tests.e2e.digits import BLOCKS, MODELS, SAMPLES, Fault, config, export_with, prepared
from tests.e2e.faults import (
    BLOCK_FAULTS,
    OUTSIDE_FAULTS,
    doubled,
    names_of,
    other_comparison,
)

BlockFault = Callable[[onnx.ModelProto, str], None]
SUBJECTS = [("model.pt", BLOCKS["model.pt"][0]), ("model.pt", BLOCKS["model.pt"][-1])]
SUBJECTS += [("pickled.pt", BLOCKS["pickled.pt"][2])]


def nothing(model: onnx.ModelProto) -> None:
    """The control: no fault."""


def refused(fault: Fault, name: str, folder: Path, patch: pytest.MonkeyPatch) -> VerificationError:
    """The export must end in exit 1 with nothing left in the folder."""
    with pytest.raises(VerificationError) as caught:
        export_with(fault, name, folder / "bundle", patch)
    assert caught.value.exit_code == EXIT_VERIFICATION_FAILED
    assert list(folder.iterdir()) == []
    return caught.value


@pytest.mark.parametrize("name", MODELS)
def test_the_good_export_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = export_with(nothing, name, tmp_path / "bundle", monkeypatch)
    assert bundle.parity is not None
    assert bundle.parity.verdict is Verdict.PASS
    checked = [p.piece for p in bundle.parity.pieces]
    assert [p for p in checked if p in BLOCKS[name]] == list(BLOCKS[name])
    assert "output 'output'" in checked
    assert f"the layers before {BLOCKS[name][0]}" in checked
    assert bundle.artifact.is_file()


@pytest.mark.parametrize("fault", BLOCK_FAULTS, ids=names_of(BLOCK_FAULTS))
@pytest.mark.parametrize(("name", "path"), SUBJECTS)
def test_a_fault_in_a_block_names_the_block(
    name: str, path: str, fault: BlockFault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refused(lambda model: fault(model, path), name, tmp_path, monkeypatch)
    assert f"first at {path}.CRU:" in str(error)
    assert isinstance(error.report, ParityReport)
    assert error.report.first_divergent_block == path


@pytest.mark.parametrize("fault", OUTSIDE_FAULTS, ids=names_of(OUTSIDE_FAULTS))
@pytest.mark.parametrize("name", MODELS)
def test_a_fault_outside_the_blocks_names_the_place(
    name: str, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refused(fault, name, tmp_path, monkeypatch)
    first = f"the layers before {BLOCKS[name][0]}" if "stem" in fault.__name__ else "output 'output'"
    assert f"first at {first}:" in str(error)
    assert isinstance(error.report, ParityReport)
    assert error.report.verdict is Verdict.FAIL


@pytest.mark.parametrize("path", BLOCKS["model.pt"])
def test_the_edge_input_tells_greater_from_greater_or_equal(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # model.pt's hard gate keeps beta = 0: the edge input puts gates on the threshold. (A soft
    # gate with trained beta has no such point: there the two comparisons are one function.)
    error = refused(lambda model: other_comparison(model, path), "model.pt", tmp_path, monkeypatch)
    assert f"first at {path}.SRU:" in str(error)


def test_a_fault_in_the_lowered_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is in the deploy module itself, and is traced, simplified and built like a good one."""
    real = lower.run
    path = BLOCKS["pickled.pt"][1]
    recognition = prepared("pickled.pt").recognition
    wrong = replace(recognition, blocks=tuple(_without_identity_order(b, path) for b in recognition.blocks))

    def lower_wrongly(source, _recognition, *more):  # type: ignore[no-untyped-def]
        return replace(real(source, wrong, *more), recognition=recognition)

    monkeypatch.setattr("scconv_deploy.stages.recognise.run", lambda module, seed: recognition)
    monkeypatch.setattr(lower, "run", lower_wrongly)
    with pytest.raises(VerificationError, match=f"first at {path}.CRU:"):
        run_export(SAMPLES / "pickled.pt", config("pickled.pt", tmp_path / "bundle"), Silence())
    assert list(tmp_path.iterdir()) == []


def _without_identity_order(block, path: str):  # type: ignore[no-untyped-def]
    """``[low, PWC2]`` for ``[PWC2, low]`` in one block."""
    if block.path != path:
        return block
    cru = replace(block.spec.cru, y2_order=Y2Order.LOW_PWC2)
    return replace(block, spec=replace(block.spec, cru=cru))


def test_the_file_is_judged_not_the_graph_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that writes another graph than it was given is caught, piece by piece."""
    from exporters.onnx_model import OnnxExporter

    path = BLOCKS["model.pt"][2]
    real = OnnxExporter.build

    def build_wrongly(self, graph, settings, folder, progress):  # type: ignore[no-untyped-def]
        model = onnx.ModelProto()
        model.CopyFrom(graph.model)
        doubled(model, path)
        return real(self, replace(graph, model=model), settings, folder, progress)

    monkeypatch.setattr(OnnxExporter, "build", build_wrongly)
    error = refused(nothing, "model.pt", tmp_path, monkeypatch)
    assert f"first at {path}.CRU:" in str(error)


def test_an_artifact_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exporters.onnx_model import OnnxExporter

    real = OnnxExporter.build

    def build_rubbish(self, graph, settings, folder, progress):  # type: ignore[no-untyped-def]
        built = real(self, graph, settings, folder, progress)
        built.primary.write_bytes(built.primary.read_bytes()[:1000])
        return built

    monkeypatch.setattr(OnnxExporter, "build", build_rubbish)
    error = refused(nothing, "model.pt", tmp_path, monkeypatch)
    assert "model.onnx" in str(error)


def test_the_twins_start_from_real_blocks() -> None:
    """All blocks are deploy modules in the lowered model, so the faults above hit what is exported."""
    for name in MODELS:
        ready = prepared(name)
        assert ready.lowered.block_paths == BLOCKS[name]
        for path in BLOCKS[name]:
            assert isinstance(ready.lowered.module.get_submodule(path), DeploySCConv)
    assert torch.get_default_dtype() is torch.float32
