"""A checkpoint file -> the symbolic trees of the pickles in it, after its container was checked.

Zip archives (torch.save since 1.6) and the legacy row of five pickles. Needs no torch; reads no tensor.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scconv_deploy.checkpoint.kinds import Kind, kind_of
from scconv_deploy.checkpoint.pickled import PickleReader
from scconv_deploy.checkpoint.trust import ORDINARY, refuse_system_calls
from scconv_deploy.errors import InputError

MAX_PICKLE = 64 << 20
"""Bytes of data.pkl: structure and names, never weights. A ResNet-101's is 0.1 MB."""

LEGACY_PICKLES = ("magic number", "protocol version", "system description", "content", "storage keys")


@dataclass(frozen=True, slots=True)
class Outline:
    """What a checkpoint says, with facts in place of tensors; ``names`` are all globals it mentions."""

    content: Any
    names: tuple[str, ...]
    containers: tuple[tuple[int, int], ...] = ()
    """Byte positions where a legacy file wraps a module's class together with its source code."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names that stand for code: everything that is not plain data."""
        return tuple(n for n in self.names if not ORDINARY.fullmatch(n))


def outline(path: Path, kind: Kind | None = None, data: bytes | None = None) -> Outline:
    """Read the structure of a checkpoint without executing it.

    ``data``: the bytes of a checkpoint that lies inside the archive ``path``, as a ``.pt2`` carries one.

    Raises:
        InputError: not a PyTorch checkpoint, damaged, or larger inside than outside.
    """
    try:
        if data is not None:
            return _zipped(path, io.BytesIO(data))
        kind = kind or kind_of(path)
        if kind is Kind.TORCH_LEGACY:
            return _legacy(path)
        return _zipped(path, path)
    except InputError:
        raise
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; it is damaged or was cut short") from error


def _zipped(path: Path, source: Path | io.BytesIO) -> Outline:
    with zipfile.ZipFile(source) as archive:
        infos = archive.infolist()
        pickles = [i for i in infos if i.filename.partition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise InputError(f"{path} is a zip archive without a data.pkl; it is no PyTorch checkpoint")
        if pickles[0].file_size > MAX_PICKLE:
            raise InputError(
                f"{path} declares a data.pkl of {pickles[0].file_size} bytes, more than any model's structure"
            )
        data = archive.read(pickles[0])
        top = pickles[0].filename.partition("/")[0]
        order = next((archive.read(i) for i in infos if i.filename == f"{top}/byteorder"), b"little")
    if order not in (b"little", b"big"):
        raise InputError(f"{path} names a byte order that does not exist; it is damaged")
    sizes = {i.filename: i.file_size for i in infos}
    reader = PickleReader(lambda key: sizes.get(f"{top}/data/{key}"))
    content, length = _named(reader, data, path)
    if length != len(data):
        raise InputError(f"{path}: data.pkl goes on after its end, which torch.save never writes")
    return Outline(content, tuple(sorted(reader.names)))


def _legacy(path: Path) -> Outline:
    size = path.stat().st_size
    data = path.read_bytes()
    start, names, trees = 0, dict[str, None](), []
    containers: list[tuple[int, int]] = []
    for part in LEGACY_PICKLES:
        reader = PickleReader(lambda _key: size)
        tree, length = _named(reader, data[start : start + MAX_PICKLE], path, f" (its {part})")
        names.update(reader.names)
        trees.append(tree)
        if sum(reader.stored.values()) > size:
            raise InputError(
                f"{path} declares more bytes of storages than the file has (cut short or forged)"
            )
        containers += [(start + mark, start + end) for mark, end in reader.containers]
        start += length
    return Outline(trees[3], tuple(sorted(names)), tuple(containers))


def _named(reader: PickleReader, data: bytes, path: Path, part: str = "") -> tuple[Any, int]:
    try:
        return reader.read(data)
    except InputError as error:
        refuse_system_calls(path, tuple(reader.names))
        named = _mentioned(reader.names)
        raise InputError(f"{path}{part} {error}{named}; nothing was executed") from error


def _mentioned(names: Mapping[str, None]) -> str:
    odd = [n for n in names if not n.startswith(("torch.", "collections."))]
    return f" (it mentions {', '.join(odd[:3])})" if odd else ""
