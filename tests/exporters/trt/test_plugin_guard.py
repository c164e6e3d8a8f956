"""The link that keeps TensorRT for RTX from aborting on plugin nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporters.trt.plugin_guard import SHORT, VARIABLE, environment, long_name
from tests.exporters.trt.models import rtx


def test_tensorrt_itself_needs_none(tmp_path: Path) -> None:
    assert environment("tensorrt", tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_link_points_into_the_wheel_and_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx()
    if long_name() is None:
        pytest.skip("this wheel has the short name already")
    monkeypatch.setenv(VARIABLE, "/elsewhere")
    assert environment("tensorrt_rtx", tmp_path) == {VARIABLE: f"{tmp_path}:/elsewhere"}
    assert (tmp_path / SHORT).resolve() == long_name()
    assert environment("tensorrt_rtx", tmp_path)[VARIABLE].startswith(str(tmp_path))
