"""Finding the library, and finding out that a model asks for it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

from scconv_deploy.kernels import loader
from scconv_deploy.runtime.onnx import STANDARD, OnnxRunner
from tests.kernels.forms import image, sru_case
from tests.kernels.models import sru_model

CASE, X = sru_case("SRU_hard", 8, 4, 0), image((1, 8, 5, 7), 0)


@pytest.fixture(autouse=True)
def _silence_forgotten() -> None:
    loader.say_once.cache_clear()


def test_the_library_says_what_it_was_built_for(library: Path) -> None:
    assert library.name == "libscconv_ort.so"
    assert loader.instruction_set() in ("avx512", "avx2", "plain")


def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    assert loader.library() is None
    assert loader.instruction_set() is None


def test_a_file_that_is_no_library_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / loader.NAME).write_bytes(b"text")
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    assert loader.library() is not None
    assert loader.instruction_set() is None


def test_fused_nodes_are_found_in_bytes_and_in_files(tmp_path: Path) -> None:
    fused = sru_model(CASE, np.float32).SerializeToString()
    node = onnx.helper.make_node("Relu", ["x"], ["scconv"], name="scconv::SRU")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "scconv", [value("x", 1, [1])], [value("scconv", 1, [1])])
    other = onnx.helper.make_model(graph).SerializeToString()
    assert loader.holds_fused_nodes(fused)
    assert not loader.holds_fused_nodes(other)
    for name, data, found in (("a", fused, True), ("b", other, False), ("c", b"", False)):
        (tmp_path / name).write_bytes(data)
        assert loader.holds_fused_nodes(tmp_path / name) is found
    assert not loader.holds_fused_nodes(tmp_path / "absent")


def test_without_the_library_the_model_runs_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    data = sru_model(CASE, np.float32).SerializeToString()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with OnnxRunner(data) as runner:
                assert runner.kernels == STANDARD
                assert set(runner.run({"x": X})) == {"y_a", "y_b"}
    assert [r.name for r in caplog.records] == ["scconv_deploy.kernels"]
    assert "not built here" in caplog.text


def test_a_library_that_cannot_be_loaded_is_left_out_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / loader.NAME).write_bytes(b"\x7fELF of another machine")
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    with (
        caplog.at_level(logging.WARNING),
        OnnxRunner(sru_model(CASE, np.float32).SerializeToString()) as runner,
    ):
        assert runner.kernels == STANDARD
        runner.run({"x": X})
    assert "do not work here" in caplog.text


def test_a_model_without_fused_nodes_needs_no_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, [1])], [value("y", 1, [1])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    with OnnxRunner(model.SerializeToString()) as runner:
        assert runner.kernels is None
    assert not caplog.records


def test_a_file_that_is_no_model_is_still_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(loader.NODE_MARK + b" but no model")
    with pytest.raises(Exception, match="cannot load"):
        OnnxRunner(path)
