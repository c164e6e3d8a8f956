"""``--target onnx`` writes the graph it was given, byte for byte, and says what it is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from exporters import onnx_model
from exporters.onnx_model import OnnxExporter
from scconv_deploy import registry
from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.runtime.backends import open_runner
from tests.stages.small import CONFIG, EXAMPLE, ready


def test_the_file_is_the_graph_and_runs(tmp_path: Path) -> None:
    graph = ready().graph
    built = OnnxExporter().build(graph, CONFIG, tmp_path, Silence())
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert onnx.load(built.primary) == graph.model
    with open_runner(built.runtime, built.primary, threads=1) as runner:
        (output,) = runner.run({"image": EXAMPLE.numpy()}).values()
    assert output.shape == (2, 8, 6, 6)
    assert built.not_executed is None


def test_the_details_count_every_node(tmp_path: Path) -> None:
    graph = ready().graph
    built = OnnxExporter().build(graph, CONFIG, tmp_path, Silence())
    operators = built.details["operators"]
    assert operators == Counter(n.op_type for n in graph.model.graph.node)
    assert isinstance(operators, dict)
    assert list(operators) == sorted(operators)
    assert built.details["nodes"] == len(graph.model.graph.node)


def test_the_graph_it_was_given_is_not_changed(tmp_path: Path) -> None:
    before = ready().graph.model.SerializeToString()
    OnnxExporter().build(ready().graph, CONFIG, tmp_path, Silence())
    assert ready().graph.model.SerializeToString() == before


def test_a_package_that_is_absent_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OnnxExporter().versions()["onnx"] == onnx.__version__
    monkeypatch.setattr(onnx_model, "PACKAGES", ("onnx", "no-such-package-of-that-name"))
    assert OnnxExporter().versions() == {"onnx": onnx.__version__}


def test_the_registry_finds_it_and_its_style_avoids_where() -> None:
    exporter = registry.exporter("onnx")
    assert isinstance(exporter, OnnxExporter)
    assert exporter.check(ExportConfig(target="onnx")) == ()
    assert not exporter.style(CONFIG).where_mask
    assert "Where" not in {n.op_type for n in ready().graph.model.graph.node}
