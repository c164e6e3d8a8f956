"""Bundles on disk -> the models this server has, each with its versions; replaced bundles are opened anew.

A bundle's folder is a model with version 1. A folder whose children are bundles called ``1``, ``2``, ... is a model
with these versions; without a version, a request gets the highest. A replaced, added or removed bundle is seen by
its manifest (bundles are replaced by renaming a folder, so a manifest is never half there). The new engine is opened
and verified beside the old one, takes over, and the old one finishes what it has; if the new one cannot be opened,
the old one stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scconv_deploy.errors import InputError, ScconvDeployError, nearest
from scconv_deploy.serve.failures import NotFoundError
from scconv_deploy.serve.model import Model
from scconv_deploy.workspace import MANIFEST

Stamp = tuple[int, int, int]
Open = Callable[[str, int, Path], Model]


class Watcher:
    """Hears what happens to models; the default hears nothing."""

    def opened(self, model: Model) -> None:
        """A version serves from now on."""

    def closed(self, model: Model) -> None:
        """A version serves no more."""

    def refused(self, name: str, version: int, error: Exception) -> None:
        """A bundle could not be opened; what served before serves on."""


@dataclass(slots=True)
class _Entry:
    model: Model
    stamp: Stamp


class Repository:
    """Names to models. Reading is safe from any thread; ``refresh`` and ``close`` belong to one.

    Args:
        folders: model's name -> its bundle, or folder of versions.
        opener: opens one version.
        watcher: hears of changes.
        drain_s: how long a replaced model may take to finish what it has.
    """

    def __init__(
        self, folders: Mapping[str, Path], opener: Open, watcher: Watcher, drain_s: float = 20.0
    ) -> None:
        self._folders, self._open, self._watcher = dict(folders), opener, watcher
        self._drain_s = drain_s
        self._entries: dict[tuple[str, int], _Entry] = {}
        self._refused: dict[tuple[str, int], Stamp] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Open everything.

        Raises:
            InputError, CapabilityError: one of the bundles cannot be served; nothing is.
        """
        for name, folder in self._folders.items():
            found = versions(folder)
            if not found:
                raise InputError(
                    f"{folder} is no bundle (it has no {MANIFEST}), nor a folder of bundles called 1, 2, ..."
                )
            for version, path in found.items():
                stamp = _stamp(path)
                self._put((name, version), self._open(name, version, path), stamp)

    def refresh(self) -> None:
        """Look at the disk once; open what is new, drop what is gone."""
        for name, folder in self._folders.items():
            found = versions(folder)
            for version, path in found.items():
                self._renew(name, version, path)
            if found:  # a folder in the middle of being renamed takes nothing away
                for key in [k for k in self._entries if k[0] == name and k[1] not in found]:
                    self._drop(key)

    def model(self, name: str, version: str | None = None) -> Model:
        """The version asked for, or the highest.

        Raises:
            NotFoundError: there is none.
        """
        have = {v: e.model for (n, v), e in list(self._entries.items()) if n == name}
        if not have:
            names = self.names()
            raise NotFoundError(
                f"no model is called '{name}'; served: {', '.join(names)}{nearest(name, names)}"
            )
        if not version:
            return have[max(have)]
        if not version.isdecimal() or int(version) not in have:
            raise NotFoundError(
                f"model '{name}' has no version '{version}'; served: {', '.join(map(str, sorted(have)))}"
            )
        return have[int(version)]

    def names(self) -> list[str]:
        """Every model's name, sorted."""
        return sorted({name for name, _ in self._entries})

    def versions(self, name: str) -> list[int]:
        """Versions of a model, sorted."""
        return sorted(v for n, v in list(self._entries) if n == name)

    def close(self) -> None:
        """Finish what waits and close every engine."""
        for key in list(self._entries):
            self._drop(key)

    def _renew(self, name: str, version: int, path: Path) -> None:
        key = (name, version)
        try:
            stamp = _stamp(path)
        except OSError:  # gone between two looks
            return
        entry = self._entries.get(key)
        if (entry is not None and entry.stamp == stamp) or self._refused.get(key) == stamp:
            return
        try:
            model = self._open(name, version, path)
        except (ScconvDeployError, OSError) as error:
            self._refused[key] = stamp
            self._watcher.refused(name, version, error)
            return
        self._put(key, model, stamp)
        if entry is not None:
            self._retire(entry.model)

    def _put(self, key: tuple[str, int], model: Model, stamp: Stamp) -> None:
        with self._lock:
            self._entries = {**self._entries, key: _Entry(model, stamp)}
        self._refused.pop(key, None)
        self._watcher.opened(model)

    def _drop(self, key: tuple[str, int]) -> None:
        with self._lock:
            gone = self._entries[key].model
            self._entries = {k: e for k, e in self._entries.items() if k != key}
        self._retire(gone)

    def _retire(self, model: Model) -> None:
        model.close(self._drain_s)
        self._watcher.closed(model)


def versions(folder: Path) -> dict[int, Path]:
    """Version -> bundle in a model's folder; empty where there is none."""
    if (folder / MANIFEST).is_file():
        return {1: folder}
    try:
        children = list(folder.iterdir())
    except OSError:
        return {}
    return {int(c.name): c for c in children if c.name.isdecimal() and (c / MANIFEST).is_file()}


def model_names(bundles: tuple[Path, ...], names: tuple[str, ...]) -> dict[str, Path]:
    """The name of each model: as given, else its folder's.

    Raises:
        InputError: two models would have one name, or a name cannot stand in a URL.
    """
    found: dict[str, Path] = {}
    for index, path in enumerate(bundles):
        name = names[index] if names else path.resolve().name
        if not name or not all(c.isalnum() or c in "._-" for c in name):
            raise InputError(f"'{name}' is no model name: use letters, digits, '.', '_' and '-' (--name)")
        if name in found:
            raise InputError(
                f"two models are called '{name}'; give each bundle a name of its own with --name"
            )
        found[name] = path
    return found


def _stamp(path: Path) -> Stamp:
    stat = (path / MANIFEST).stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
