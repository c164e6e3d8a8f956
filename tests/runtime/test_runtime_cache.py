"""Kernels come back from the user's own cache, and from nobody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from scconv_deploy.runtime import runtime_cache

needs_permissions = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no file modes")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return runtime_cache.file_for(b"plan", "1.7.1", "L4 (sm_89)")


def test_what_is_written_is_read(file: Path) -> None:
    assert runtime_cache.read(file) is None
    for data in (b"kernels", b"more kernels"):
        assert runtime_cache.write(file, data)
        assert runtime_cache.read(file) == data
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_every_engine_library_and_gpu_has_its_own(file: Path) -> None:
    others = [
        runtime_cache.file_for(b"other", "1.7.1", "L4 (sm_89)"),
        runtime_cache.file_for(b"plan", "1.7.2", "L4 (sm_89)"),
        runtime_cache.file_for(b"plan", "1.7.1", "L40 (sm_89)"),
    ]
    assert len({file, *others}) == 4


@needs_permissions
def test_it_is_private(file: Path) -> None:
    runtime_cache.write(file, b"kernels")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@needs_permissions
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_what_others_may_write_is_not_read(file: Path, mode: int) -> None:
    runtime_cache.write(file, b"kernels")
    file.chmod(mode)
    assert runtime_cache.read(file) is None


@needs_permissions
def test_a_folder_that_others_may_write_is_neither_read_nor_written(file: Path) -> None:
    runtime_cache.write(file, b"kernels")
    file.parent.chmod(0o777)
    assert runtime_cache.read(file) is None
    assert not runtime_cache.write(file, b"other")


@needs_permissions
def test_what_belongs_to_somebody_else_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_cache.write(file, b"kernels")
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert runtime_cache.read(file) is None


def test_links_are_not_followed(file: Path, tmp_path: Path) -> None:
    runtime_cache.write(file, b"kernels")
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert runtime_cache.read(file) is None
    runtime_cache.write(file, b"new")
    assert elsewhere.read_bytes() == b"kernels"
    assert runtime_cache.read(file) == b"new"


def test_a_file_that_is_too_large_is_not_ours(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_cache.write(file, b"kernels")
    monkeypatch.setattr(runtime_cache, "LARGEST", 3)
    assert runtime_cache.read(file) is None


def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocker))
    file = runtime_cache.file_for(b"plan", "1", "gpu")
    assert runtime_cache.read(file) is None
    assert not runtime_cache.write(file, b"kernels")
