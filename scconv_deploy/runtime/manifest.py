"""A bundle's ``manifest.json`` -> entries that a runtime can rely on, and files that are what it says they are.

A manifest may come from anyone: what is read of it anywhere below is checked here once, kind by kind, so that a
damaged one is refused in a sentence that names the entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scconv_deploy.errors import InputError
from scconv_deploy.runtime.dtypes import numpy_dtype

SCHEMA = 1
REQUIRED = {"artifact": str, "runtime": str, "files": dict, "inputs": list, "outputs": list}
"""What a manifest must hold for its bundle to run."""
OPTIONAL = {"precision": dict, "tensorrt": dict}
"""What a runtime reads where it is there."""
LARGEST = 64 << 20
"""Bytes of a manifest; those of the largest networks have some 100 kB."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Parse a bundle's manifest.

    Raises:
        InputError: not a bundle, a damaged manifest, or a schema this version does not know.
    """
    file = path / "manifest.json"
    if not file.is_file():
        raise InputError(f"{path} is not a bundle: it has no manifest.json")
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file} is damaged: it has {file.stat().st_size} bytes")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: {error}") from error
    if not isinstance(manifest, dict) or "schema_version" not in manifest:
        raise InputError(f"{file} is damaged: it has no schema_version")
    version = manifest["schema_version"]
    if version != SCHEMA:
        raise InputError(f"{path} has manifest schema {version}; this version reads schema {SCHEMA}")
    for entry in _unusable(manifest):
        raise InputError(f"{file} is damaged: it has no usable {entry}")
    if Path(manifest["artifact"]).name != manifest["artifact"]:
        raise InputError(f"{file} is damaged: its artifact '{manifest['artifact']}' is not in the bundle")
    return manifest


def check_hashes(path: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file's SHA-256 with the manifest's.

    Raises:
        InputError: a file is missing or differs.
    """
    if manifest["artifact"] not in manifest["files"]:
        raise InputError(f"{path}: the manifest does not list its own artifact; the bundle is incomplete")
    for name, entry in manifest["files"].items():
        file = path / name
        if Path(name).name != name or not file.is_file():
            raise InputError(f"{path} lacks {name}, which its manifest lists; the bundle is incomplete")
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != entry["sha256"]:
            raise InputError(f"{file} was altered or damaged since the export (its SHA-256 differs)")


def _unusable(manifest: Mapping[str, Any]) -> Iterator[str]:
    """The entries of ``manifest`` that are missing or of another kind than a runtime needs, in its own words."""
    for key, kind in REQUIRED.items():
        if not isinstance(manifest.get(key), kind) or not manifest[key]:
            yield f"'{key}'"
            return
    yield from (f"'{k}'" for k, kind in OPTIONAL.items() if not isinstance(manifest.get(k) or {}, kind))
    for name, entry in manifest["files"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            yield f"SHA-256 of '{name}'"
    for side in ("inputs", "outputs"):
        for index, entry in enumerate(manifest[side]):
            where = f"{side}[{index}]"
            if not isinstance(entry, dict):
                yield f"'{where}'"
                continue
            broken = _input(entry) if side == "inputs" else _output(entry)
            yield from (f"'{where}.{key}'" for key in broken)


def _output(entry: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(entry.get("name"), str):
        yield "name"
    if not _is_type(entry.get("dtype", "float32")):
        yield "dtype"


def _input(entry: Mapping[str, Any]) -> Iterator[str]:
    yield from _output(entry)
    if "dtype" not in entry:
        yield "dtype"
    yield from _bounds(entry)
    multiples = entry.get("multiple_of", {})
    if not isinstance(multiples, dict) or not all(
        axis.isdecimal() and _is_size(m) and m > 0 for axis, m in multiples.items()
    ):
        yield "multiple_of"
    profiles = entry.get("profiles", [])
    if not isinstance(profiles, list) or not all(isinstance(p, dict) for p in profiles):
        yield "profiles"
        return
    yield from (f"profiles[{i}].{key}" for i, profile in enumerate(profiles) for key in _bounds(profile))


def _bounds(entry: Mapping[str, Any]) -> Iterator[str]:
    low = entry.get("minimum")
    for key in ("minimum", "maximum", "optimum"):
        sizes = entry.get(key)
        if key == "optimum" and (sizes is None or sizes == []):
            continue
        alike = isinstance(low, list) and isinstance(sizes, list) and len(low) == len(sizes)
        if not alike or not all(map(_is_size, sizes or ())):
            yield key


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_type(name: object) -> bool:
    try:
        return isinstance(name, str) and bool(name) and numpy_dtype(name).hasobject is False
    except (TypeError, ValueError):
        return False
