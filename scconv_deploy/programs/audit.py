"""A stranger's program archive -> its entries by name, and the rules that hold for every kind of it.

torch opens these files with readers that run what is in them (see ``audit_exported`` and ``audit_torchscript``),
so everything is read here first, as data. No torch is imported.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scconv_deploy.errors import InputError

MAX_TEXT = 256 << 20
"""Bytes of a program's text. The JSON of an exported SCConv-ResNet-50 has 6 MB."""
MAX_DEPTH = 200

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,999}")
DOTTED = re.compile(r"[A-Za-z0-9_]{1,999}(\.[A-Za-z0-9_]{1,999}){0,99}")
"""Names that end up in generated Python text have to be names and nothing else."""

FORBIDDEN = frozenset(
    {"from_file", "save", "load", "set_", "set_data", "resize_", "record_stream", "pin_memory", "manual_seed"}
    | {
        "set_source",
        "_print",
        "import_ir_module",
        "rpc_async",
        "rpc_sync",
        "rpc_remote",
        "backward",
        "_backward",
    }
)
"""Operators of torch's own that touch files, memory of other tensors, processes or global state."""


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a zip archive below its only top folder: name -> size, read on demand."""

    path: Path
    top: str
    sizes: dict[str, int]

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of one entry.

        Raises:
            InputError: it is missing, larger than ``limit``, or damaged.
        """
        size = self.sizes.get(name)
        if size is None:
            raise InputError(f"{self.path} has no entry '{name}'; it is damaged or was cut short")
        if limit is not None and size > limit:
            raise InputError(
                f"{self.path}: its entry '{name}' has {size} bytes, more than any model's program"
            )
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.top + name)
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            RuntimeError,
            EOFError,
            NotImplementedError,
        ) as error:
            raise InputError(f"{self.path}: its entry '{name}' cannot be read: {error}") from error

    def json(self, name: str) -> Any:
        """The parsed JSON of one entry.

        Raises:
            InputError: no JSON, or nested deeper than any program.
        """
        data = self.read(name, MAX_TEXT)
        try:
            return json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError, MemoryError) as error:
            said = (
                type(error).__name__ if isinstance(error, RecursionError | MemoryError) else str(error)[:120]
            )
            raise InputError(f"{self.path}: its entry '{name}' is no readable JSON ({said})") from error

    def below(self, folder: str) -> tuple[str, ...]:
        """Names of the entries in ``folder`` that hold something."""
        return tuple(n for n, size in self.sizes.items() if n.startswith(folder) and size)


def entries(path: Path, landmark: str) -> Entries:
    """Open an archive whose entry ``landmark`` says where its contents lie.

    Raises:
        InputError: no zip archive, or the landmark is missing or there twice.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [i for i in archive.infolist() if not i.is_dir()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read as an archive: {error}") from error
    tops = {i.filename.removesuffix(landmark) for i in infos if f"/{i.filename}".endswith(f"/{landmark}")}
    if len(tops) != 1:
        raise InputError(
            f"{path} holds {len(tops)} entries '{landmark}' where a program has one; it is damaged"
        )
    top = tops.pop()
    sizes = {i.filename.removeprefix(top): i.file_size for i in infos if i.filename.startswith(top)}
    return Entries(path, top, sizes)
