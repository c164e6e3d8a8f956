"""A safetensors file -> its header, checked, and its tensors.

The format is eight bytes of header length, a JSON header (dtype, shape and byte range of each tensor), and
the tensors without gaps. Read here, because every damage must end in a sentence, and a header costs no torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scconv_deploy.checkpoint.facts import TensorFact
from scconv_deploy.errors import InputError

if TYPE_CHECKING:
    import torch

MAX_HEADER = 100_000_000
"""The format's own limit, in bytes."""

MAX_RANK = 64
"""Axes of a tensor: far more than any model has. The product of a forged million of them would take hours."""

DTYPES: Mapping[str, tuple[str, int]] = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "I64": ("int64", 8), "I32": ("int32", 4),
    "I16": ("int16", 2), "I8": ("int8", 1), "U64": ("uint64", 8), "U32": ("uint32", 4), "U16": ("uint16", 2),
    "U8": ("uint8", 1), "BOOL": ("bool", 1), "C64": ("complex64", 8),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the header; ``begin`` counts from the end of the header."""

    fact: TensorFact
    begin: int
    size: int


def read_header(path: Path) -> tuple[dict[str, Entry], int]:
    """Entries by name, and the position of the first tensor's byte.

    Raises:
        InputError: damaged or forged; ranges that overlap, leave gaps, or lie outside the file.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
        if length > min(MAX_HEADER, size - 8):
            raise InputError(
                f"{path} is a safetensors file whose header claims {length} bytes where the file has {size}; "
                "it was cut short or is damaged"
            )
        text = stream.read(length)
    try:
        header = json.loads(text)
        entries = {k: _entry(k, v, path) for k, v in header.items() if k != "__metadata__"}
    except (ValueError, RecursionError, AttributeError, MemoryError) as error:
        raise InputError(f"{path} has a safetensors header that is no valid JSON: {error}") from error
    _check_ranges(path, entries, size - 8 - length)
    return entries, 8 + length


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor by name, copied out of the file. Raises as :func:`read_header`."""
    import torch

    entries, start = read_header(path)
    found = {}
    with path.open("rb") as stream:
        for name, entry in entries.items():
            stream.seek(start + entry.begin)
            dtype = getattr(torch, entry.fact.dtype)
            data = bytearray(stream.read(entry.size))
            flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            found[name] = flat.reshape(entry.fact.shape)
    return found


def _entry(name: str, value: Any, path: Path) -> Entry:
    try:
        dtype, width = DTYPES[value["dtype"]]
        shape, (begin, end) = tuple(value["shape"]), value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} describes its tensor {name[:60]!r} in a way this program cannot read"
        ) from error
    numbers = [*shape, begin, end]
    if len(shape) > MAX_RANK or any(type(n) is not int or not 0 <= n < 1 << 62 for n in numbers):
        raise InputError(f"{path} gives its tensor {name[:60]!r} a negative or senseless size")
    if prod(shape) * width != end - begin:
        raise InputError(
            f"{path} gives its tensor {name[:60]!r} the shape {list(shape)[:8]}, which does not fill its "
            f"{end - begin} bytes; the file is damaged or forged"
        )
    return Entry(TensorFact(shape, dtype), begin, end - begin)


def _check_ranges(path: Path, entries: Mapping[str, Entry], room: int) -> None:
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].size)):
        if entry.begin != position:
            raise InputError(
                f"{path}: the bytes of tensor {name[:60]!r} overlap another tensor's or leave a gap; "
                "the file is damaged or forged"
            )
        position += entry.size
    if position != room:
        raise InputError(
            f"{path} describes {position} bytes of tensors and holds {room}; it was cut short or is damaged"
        )
