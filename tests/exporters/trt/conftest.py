"""A fake TensorRT that only a child process imports, and a workspace in which nothing may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from exporters.trt.platform import Platform
from scconv_deploy.runtime.nvidia_driver import Gpu
from tests.exporters.trt.fake_tensorrt import write_fake


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform whose module only the child imports; FAKE_TENSORRT chooses what it does."""
    home = tmp_path / "fake"
    home.mkdir()
    write_fake(home)
    monkeypatch.syspath_prepend(str(home))
    module = cast(ModuleType, SimpleNamespace(__name__="tensorrt", __version__="10.13"))
    return Platform(module, Gpu("Card", "sm_89"), "")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The workspace; whatever a test does there, no file may be left behind."""
    home = tmp_path / "workspace"
    home.mkdir()
    yield home
    assert list(home.iterdir()) == [], "a file was left behind"
