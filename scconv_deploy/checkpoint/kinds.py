"""File content -> which kind of model file it is. Names and suffixes are never consulted."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
from enum import StrEnum
from pathlib import Path

from scconv_deploy.errors import InputError

OWN_FORMAT = "scconv-deploy/1"
"""What our own checkpoints say under ``format``: zoo architecture, settings, weights."""

LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46")
"""The pickled magic number 0x1950a86a20f9469cfc6c that opens a pre-1.6 ``torch.save`` file."""


class Kind(StrEnum):
    """What the first bytes (and a zip's directory) say."""

    TORCH_ZIP = "PyTorch checkpoint (zip)"
    TORCH_LEGACY = "PyTorch checkpoint (legacy, before 1.6)"
    TORCHSCRIPT = "TorchScript archive"
    EXPORTED_PROGRAM = "torch.export archive (.pt2)"
    SAFETENSORS = "safetensors file"
    ONNX = "ONNX model"
    UNKNOWN = "unknown file"


def kind_of(path: Path) -> Kind:
    """Look at the first bytes; never executes or decompresses content.

    Raises:
        InputError: the path does not exist, is a folder, is empty, or cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the model file itself")
    # Opening a named pipe or a device may wait, or read, for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is no regular file (a pipe, socket or device); copy its content to a file")
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if not head:
        raise InputError(f"{path} is empty")
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head.startswith(LEGACY_MAGIC):
        return Kind.TORCH_LEGACY
    if _is_safetensors(path, head):
        return Kind.SAFETENSORS
    # ModelProto begins with field 1 (ir_version, a varint): tag 0x08 and a small version number.
    if len(head) > 1 and head[0] == 0x08 and 1 <= head[1] <= 32:
        return Kind.ONNX
    return Kind.UNKNOWN


def _zip_kind(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            _refuse_forged_zip(path, archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path} begins like a PyTorch file but its directory is damaged ({error}); "
            "the download or copy was probably cut short"
        ) from error
    tails = {name.partition("/")[2] for name in names}
    # TorchScript first: it also holds a data.pkl.
    if "constants.pkl" in tails and any(tail.startswith("code/") for tail in tails):
        return Kind.TORCHSCRIPT
    old = "serialized_exported_program.json" in names  # torch.export before 2.8
    if "archive_format" in tails or "models/model.json" in tails or old:
        return Kind.EXPORTED_PROGRAM
    return Kind.TORCH_ZIP if "data.pkl" in tails else Kind.UNKNOWN


def _refuse_forged_zip(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse what no writer of models produces: names that leave the archive, twins, bombs.

    torch stores entries without compression, so their sizes add up to no more than the file's. A .pt2 or a
    re-packed archive may be compressed; weights never shrink to a twentieth.
    """
    if min((entry.header_offset for entry in entries), default=0):
        # A .pt2 carries an archive of sample inputs: without its own directory, that one's would be found.
        raise InputError(
            f"{path} does not begin with its own first entry; it was cut short, or two archives were joined"
        )
    seen: set[str] = set()
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in entry.orig_filename:
            raise InputError(
                f"{path} contains an entry named {entry.filename[:80]!r}, which would leave the archive: "
                "the file is probably hostile; nothing was unpacked"
            )
        if entry.filename in seen:
            raise InputError(
                f"{path} contains {entry.filename[:80]!r} twice, so that two programs may read two different "
                "models: the file is damaged or hostile"
            )
        seen.add(entry.filename)
    size = path.stat().st_size
    declared = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if packed > size or declared > 20 * size + (1 << 20):
        raise InputError(
            f"{path} has {size} bytes and declares {declared} inside (a decompression bomb, or a damaged "
            "archive); nothing was unpacked"
        )


def _is_safetensors(path: Path, head: bytes) -> bool:
    if len(head) < 9 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    # A header that begins with a tensor's entry but does not fit is a damaged file of this kind: its reader
    # says so better than "unknown".
    if head[8:16].lstrip(b"{ ").startswith(b'"') and 2 <= length <= 100_000_000:
        return True
    if not 2 <= length <= min(100_000_000, path.stat().st_size - 8):
        return False
    with path.open("rb") as stream:
        stream.seek(8)
        try:
            return isinstance(json.loads(stream.read(length)), dict)
        except (ValueError, UnicodeDecodeError, RecursionError):
            return False
