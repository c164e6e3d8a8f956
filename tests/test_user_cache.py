"""Caches lie in the user's own folder, and what others could have written there is not trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scconv_deploy import user_cache


def test_the_users_choice_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache.folder("kernels") == tmp_path / "scconv-deploy" / "kernels"


def test_a_relative_cache_home_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The XDG base directory specification: relative paths are invalid."""
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache.folder("kernels").is_absolute()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no file modes")
def test_only_what_nobody_else_can_write_is_own(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    assert not user_cache.is_own(file)
    file.write_text("")
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    link.symlink_to(file)
    assert user_cache.is_own(file)
    assert not user_cache.is_own(link)
    file.chmod(0o666)
    assert not user_cache.is_own(file)
    file.chmod(0o644)
    tmp_path.chmod(0o777)
    assert not user_cache.is_own(file)
    assert not user_cache.is_own(tmp_path)
