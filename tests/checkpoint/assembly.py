"""Pickles assembled by hand, and the registry of hostile files: name -> a function that writes one.

``witness`` is a path that the payloads create when anything executes them. Entries of :data:`EXECUTABLE` do
create it when they are unpickled without protection, which a test shows first (the alarm rings).
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

Writer = Callable[[Path, Path], None]
KINDS: dict[str, Writer] = {}
EXECUTABLE: set[str] = set()
LEGACY_HEAD = (
    pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
)


def kind(name: str, executes: bool = False) -> Callable[[Writer], Writer]:
    """Register a writer."""

    def add(writer: Writer) -> Writer:
        KINDS[name] = writer
        if executes:
            EXECUTABLE.add(name)
        return writer

    return add


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def named(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return named(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def system(witness: Path) -> bytes:
    return call("posix", "system", text(f"touch {witness}"))


def storage(numel: int, key: str = "0", kind: bytes | None = None) -> bytes:
    """The persistent id of a storage."""
    kind = named("torch", "FloatStorage") if kind is None else kind
    return b"(" + text("storage") + kind + text(key) + text("cpu") + integer(numel) + b"tQ"


def tensor(stored: bytes, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    sizes = b"".join(b"(" + b"".join(map(integer, s)) + b"t" for s in (shape, stride))
    hooks = call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_tensor_v2", stored, integer(offset), sizes, b"\x89", hooks)


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def module_with(state: bytes) -> bytes:
    return named("torch.nn.modules.container", "Sequential") + b")\x81" + state + b"b"


def zipped(path: Path, program: bytes, storages: Mapping[str, bytes] | None = None, **more: bytes) -> None:
    entries = {"archive/data.pkl": b"\x80\x02" + program + b".", "archive/version": b"3\n"}
    entries |= {"archive/byteorder": b"little", "archive/.data/serialization_id": b"1"}
    entries |= {f"archive/data/{k}": v for k, v in (storages or {"0": bytes(16)}).items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (entries | more).items():
            archive.writestr(name, data)


GOOD = tensor(storage(4), 0, (2, 2), (2, 1))
