"""``--target onnx`` writes the graph it was given, byte for byte, and says what it is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from exporters import onnx_model
from exporters.onnx_model import OnnxExporter
from scconv_deploy import registry
from scconv_deploy.config import ExportConfig, Precision
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import CapabilityError
from scconv_deploy.runtime.backends import open_runner
from tests.stages.small import CONFIG, EXAMPLE, half_config, half_graph, ready


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
    assert exporter.style(CONFIG).shared_rest
    assert exporter.style(CONFIG).dense_y1_below == 16
    candidates = exporter.candidate_styles(CONFIG).values()
    assert exporter.style(CONFIG) not in candidates
    assert len(set(candidates)) == len(candidates)
    assert "Where" not in {n.op_type for n in ready().graph.model.graph.node}


def test_the_precision_is_read_from_the_file(tmp_path: Path) -> None:
    built = OnnxExporter().build(half_graph(Precision.FP16), half_config(Precision.FP16), tmp_path, Silence())
    assert built.precision_built == "fp16"
    assert built.precision_per_block == {"2": {"convolutions": "fp16", "gate": "fp32", "fuse": "fp32"}}
    assert built.not_executed is None
    assert any("computes fp16 operators in fp32" in note for note in built.notes)
    # Asked for fp16, given an fp32 graph: the file is what counts.
    other = tmp_path / "other"
    other.mkdir()
    wide = OnnxExporter().build(ready().graph, half_config(Precision.FP16), other, Silence())
    assert wide.precision_built == "fp32"
    assert wide.precision_per_block["2"]["convolutions"] == "fp32"


def test_a_type_without_kernels_is_found_by_opening_the_file(tmp_path: Path) -> None:
    built = OnnxExporter().build(half_graph(Precision.BF16), half_config(Precision.BF16), tmp_path, Silence())
    assert built.precision_built == "bf16"
    if built.not_executed is None:
        pytest.skip("this ONNX Runtime has bfloat16 convolutions on CPU")
    with pytest.raises(CapabilityError, match=r"kernel for Conv\(22\)") as caught:
        open_runner(built.runtime, built.primary)
    assert built.not_executed == f"not executed: {caught.value}"
    assert str(tmp_path) not in built.not_executed
