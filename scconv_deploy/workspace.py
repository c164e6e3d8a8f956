"""A bundle is either complete or not there: write into a temporary sibling, rename at the very end.

The sibling lives on the same file system as the destination, so the final rename is atomic. An existing
bundle is moved aside first and put back if the rename fails; it is never touched by a failed run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scconv_deploy.errors import InputError

MANIFEST = "manifest.json"


class Workspace:
    """The temporary folder of one export. ``promote`` makes it the bundle; leaving without it removes it."""

    def __init__(self, destination: Path, folder: Path) -> None:
        self.destination = destination
        self.folder = folder
        self._promoted = False

    def promote(self, force: bool) -> None:
        """Rename the folder to the destination; replaces an existing bundle only with ``force``."""
        sync_folder(self.folder)
        if self.destination.exists():
            refuse_occupied(self.destination, force)
            aside = Path(
                tempfile.mkdtemp(prefix=_hidden(self.destination, "old"), dir=self.destination.parent)
            )
            old = aside / "bundle"
            try:
                self.destination.rename(old)
                self.folder.rename(self.destination)
            except BaseException:
                if old.exists():
                    old.rename(self.destination)
                aside.rmdir()
                raise
            self._promoted = True
            shutil.rmtree(aside, ignore_errors=True)
        else:
            self.folder.rename(self.destination)
        self._promoted = True

    def discard(self) -> None:
        """Remove everything written so far, unless it was promoted."""
        if not self._promoted:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def workspace(destination: Path, force: bool) -> Iterator[Workspace]:
    """Open a workspace beside ``destination``; refuses early what ``promote`` would refuse late.

    Raises:
        InputError: the destination is occupied, or its parent cannot be written.
    """
    destination = destination.absolute()
    refuse_occupied(destination, force)
    created = _make_parents(destination.parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_hidden(destination, "tmp"), dir=destination.parent))
        # mkdtemp makes it private to this user; a bundle has the permissions of an ordinary folder.
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
    except OSError as error:
        _remove_empty(created)
        raise InputError(f"cannot write to {destination.parent}: {error.strerror or error}") from error
    space = Workspace(destination, folder)
    try:
        yield space
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(
                f"the disk that holds {destination.parent} is full; free some space and run the export again"
            ) from error
        raise
    finally:
        space.discard()
        _remove_empty(created)


def refuse_occupied(destination: Path, force: bool) -> None:
    """Raise InputError unless ``destination`` is free, or a bundle that ``force`` allows to replace."""
    if destination.is_symlink() and not destination.exists():
        raise InputError(f"{destination} is a link to nowhere; remove it, or choose another -o")
    if not destination.exists():
        return
    if not destination.is_dir():
        raise InputError(f"{destination} is a file; give a folder with -o")
    is_bundle = (destination / MANIFEST).is_file()
    if is_bundle and force:
        return
    if is_bundle:
        raise InputError(
            f"{destination} already holds a bundle; add --force to replace it, or choose another -o"
        )
    if any(destination.iterdir()):
        raise InputError(
            f"{destination} exists and is no bundle (it has no {MANIFEST}); it is left alone, "
            "choose another -o"
        )


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush every file of ``folder`` to disk, so that the rename cannot outrun the data."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _hidden(destination: Path, mark: str) -> str:
    """How the name of a folder beside ``destination`` begins; short, since the longest legal names have no room."""
    return f".{destination.name[:40]}.{mark}-"


def _make_parents(folder: Path) -> list[Path]:
    missing = [p for p in [folder, *folder.parents] if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {folder}: {error.strerror or error}") from error
    return missing


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders this run created that are still empty (innermost first)."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
