"""What was run, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from scconv_deploy.artifacts import BuiltArtifact
from scconv_deploy.parity.subject import on_device, subject_in_words


@pytest.mark.parametrize(
    ("name", "runtime", "obstacle", "in_torch", "words"),
    [
        ("model.onnx", "onnxruntime", None, False, "model.onnx in ONNX Runtime"),
        ("model.onnx", "onnxruntime", None, True, "model.onnx, in torch, rounding after every operator"),
        (
            "model.engine",
            "tensorrt-rtx",
            "no GPU",
            False,
            "the ONNX graph model.engine was built from, in ONNX Runtime",
        ),
        (
            "model.engine",
            "tensorrt-rtx",
            "no GPU",
            True,
            "the ONNX graph model.engine was built from, in torch",
        ),
        ("model.engine", "tensorrt-rtx", None, True, "model.engine in tensorrt-rtx"),
    ],
)
def test_it_says_what_was_run(
    name: str, runtime: str, obstacle: str | None, in_torch: bool, words: str
) -> None:
    built = BuiltArtifact((Path(name),), runtime, "int8", {}, not_executed=obstacle)
    assert subject_in_words(built, in_torch).startswith(words)
    assert on_device(built) is (runtime == "tensorrt-rtx" and obstacle is None)
