"""A bundle is complete or not there, whatever happens; nothing is ever left beside it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scconv_deploy.errors import InputError
from scconv_deploy.workspace import MANIFEST, refuse_occupied, sha256, workspace


def export_to(destination: Path, force: bool = False, text: str = "new") -> None:
    """What an export does: files, the manifest last, promote."""
    with workspace(destination, force) as space:
        (space.folder / "model.onnx").write_text(text)
        (space.folder / MANIFEST).write_text("{}")
        space.promote(force)


def test_a_good_run_leaves_the_bundle_and_nothing_else(tmp_path: Path) -> None:
    export_to(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "model.onnx").read_text() == "new"


def test_nothing_is_there_before_the_end(tmp_path: Path) -> None:
    with workspace(tmp_path / "out", force=False) as space:
        assert not (tmp_path / "out").exists()
        assert space.folder.parent == tmp_path


@pytest.mark.parametrize("error", [RuntimeError("oops"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("nested", ["out", "a/b/out"])
def test_nothing_is_left_behind(error: BaseException, nested: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), workspace(tmp_path / nested, force=False) as space:  # noqa: PT012
        (space.folder / "half").mkdir()
        (space.folder / "half" / "written").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_leaving_without_promote_discards(tmp_path: Path) -> None:
    with workspace(tmp_path / "out", force=False) as space:
        (space.folder / "model.onnx").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_place_is_refused_at_once(tmp_path: Path) -> None:
    export_to(tmp_path / "out", text="old")
    with pytest.raises(InputError, match="already holds a bundle; add --force"):
        export_to(tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    for name, message in (("file", "is a file"), ("folder", "is no bundle")):
        for force in (False, True):
            with pytest.raises(InputError, match=message):
                export_to(tmp_path / name, force)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "out" / "model.onnx").read_text() == "old"


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="link"):
        export_to(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_to(tmp_path / "out")
    assert (tmp_path / "out" / MANIFEST).is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_force_replaces_the_whole_bundle(tmp_path: Path) -> None:
    export_to(tmp_path / "out", text="old")
    (tmp_path / "out" / "leftover").touch()
    export_to(tmp_path / "out", force=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [MANIFEST, "model.onnx"]
    assert (tmp_path / "out" / "model.onnx").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failed_run_with_force_keeps_the_old_bundle(tmp_path: Path) -> None:
    export_to(tmp_path / "out", text="old")
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path / "out", force=True) as space:  # noqa: PT012
        (space.folder / "model.onnx").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "model.onnx").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_interrupt_between_the_two_renames_restores_the_old(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_to(tmp_path / "out", text="old")
    real, calls = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        export_to(tmp_path / "out", force=True)
    monkeypatch.undo()
    assert len(calls) >= failing
    assert (tmp_path / "out" / "model.onnx").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_somebody_else_was_quicker(tmp_path: Path) -> None:
    """The place was free at the start and is occupied at the end."""
    with (  # noqa: PT012 - the block is the export itself
        pytest.raises(InputError, match="already holds a bundle"),
        workspace(tmp_path / "out", False) as space,
    ):
        (space.folder / MANIFEST).write_text("{}")
        export_to(tmp_path / "out", text="theirs")
        space.promote(force=False)
    assert (tmp_path / "out" / "model.onnx").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"disk that holds .* is full"), workspace(tmp_path / "out", False):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="Input/output"), workspace(tmp_path / "out", False):
        raise OSError(errno.EIO, "Input/output error")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here (not root, or in a container)")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk(tiny_disk: Path) -> None:
    with pytest.raises(InputError, match="is full"), workspace(tiny_disk / "out", False) as space:
        (space.folder / "model.onnx").write_bytes(b"x" * 10**6)
    assert list(tiny_disk.iterdir()) == []


def test_permissions_are_those_of_an_ordinary_folder(tmp_path: Path) -> None:
    export_to(tmp_path / "out")
    (tmp_path / "ordinary").mkdir()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out", "ordinary")}
    assert len(modes) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="cannot write"):
        export_to(tmp_path / "locked" / "out")


@pytest.mark.parametrize("name", ["b" * 255, "ü" * 127])
def test_the_longest_legal_name(name: str, tmp_path: Path) -> None:
    for _ in range(2):
        with workspace(tmp_path / name, force=True) as space:
            (space.folder / MANIFEST).write_text("{}")
            space.promote(force=True)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot create"):
        export_to(tmp_path / "file" / "out")


def test_refuse_occupied_lets_a_free_place_pass(tmp_path: Path) -> None:
    refuse_occupied(tmp_path / "free", force=False)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
