"""Hostile containers: broken or lying zip archives, cut-off files, odd kinds of files, forged safetensors."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch

from tests.checkpoint.assembly import (
    GOOD,
    Writer,
    kind,
    mapping,
    system,
    zipped,
)


@kind("a bomb of deflated instructions")
def _deflated(path: Path, witness: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * (64 << 20) + b"N.")
        archive.writestr("archive/version", "3\n")


@kind("thirty million instructions")
def _long(path: Path, witness: Path) -> None:
    zipped(path, b"N" * 30_000_000)


@kind("an entry whose declared size is a lie")
def _lying_size(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 20 : place + 28] = struct.pack("<II", 0x7FFFFFF0, 0x7FFFFFF0)
    path.write_bytes(bytes(data))


@kind("an entry that leaves the archive")
def _traversal(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD), **{f"archive/../../../..{witness}": b"x"})


@kind("an entry with an absolute path")
def _absolute(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD), **{str(witness): b"x"})


@kind("an entry that is there twice")
def _twice(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + system(witness) + b".")


@kind("a byte order that does not exist")
def _byteorder(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD), **{"archive/byteorder": b"\xff\xfemiddle"})


def _truncated(share: float) -> Writer:
    def write(path: Path, witness: Path) -> None:
        buffer = io.BytesIO()
        torch.save({"w": torch.zeros(1000)}, buffer)
        data = buffer.getvalue()
        path.write_bytes(data[: int(len(data) * share)])

    return write


for _share in (0.001, 0.1, 0.5, 0.9, 0.999):
    kind(f"cut off after {_share:.1%}")(_truncated(_share))


@kind("zeros in the middle")
def _zeros(path: Path, witness: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[:64] + bytes(400) + data[464:])


@kind("a wrong magic number")
def _magic(path: Path, witness: Path) -> None:
    path.write_bytes(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46" + b"\xff" * 400)


@kind("an empty file")
def _empty(path: Path, witness: Path) -> None:
    path.touch()


@kind("random bytes")
def _random(path: Path, witness: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(100_000))


@kind("a web page")
def _page(path: Path, witness: Path) -> None:
    path.write_text("<!doctype html><title>Quota exceeded</title>\n")


@kind("a NumPy archive")
def _npz(path: Path, witness: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, w=np.zeros(3))


@kind("a folder")
def _folder(path: Path, witness: Path) -> None:
    path.mkdir()


@kind("a link to itself")
def _loop(path: Path, witness: Path) -> None:
    path.symlink_to(path)


@kind("a named pipe that nobody writes")
def _pipe(path: Path, witness: Path) -> None:
    os.mkfifo(path)


@kind("an endless device")
def _device(path: Path, witness: Path) -> None:
    path.symlink_to("/dev/zero")


@kind("garbage that begins like ONNX")
def _onnx(path: Path, witness: Path) -> None:
    path.write_bytes(b"\x08\x09" + random.Random(3).randbytes(5000))


def _safetensors(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


@kind("safetensors with a header of exabytes")
def _st_huge(path: Path, witness: Path) -> None:
    _safetensors(path, b'{"w":{"dtype":"F32"', length=1 << 60)


@kind("safetensors with a header longer than the file")
def _st_long(path: Path, witness: Path) -> None:
    _safetensors(path, b'{"w":{"dtype":"F32"', length=90_000_000)


@kind("safetensors whose tensors overlap")
def _st_overlap(path: Path, witness: Path) -> None:
    one = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    two = '{"dtype":"F32","shape":[2],"data_offsets":[4,12]}'
    _safetensors(path, f'{{"a":{one},"b":{two}}}'.encode(), bytes(12))


@kind("safetensors with a tensor outside the file")
def _st_outside(path: Path, witness: Path) -> None:
    _safetensors(path, b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', bytes(8))


@kind("safetensors with a tensor of terabytes")
def _st_forged(path: Path, witness: Path) -> None:
    _safetensors(path, b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}', bytes(4))


@kind("safetensors nested without end")
def _st_nested(path: Path, witness: Path) -> None:
    _safetensors(path, b'{"a":' + b"[" * 200_000)


@kind("a safetensors header that is no dictionary of tensors")
def _st_list(path: Path, witness: Path) -> None:
    _safetensors(path, b'{"a":[1,2,3]}')
