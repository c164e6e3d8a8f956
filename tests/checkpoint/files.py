"""Model files of every kind, good and hostile, written for the tests."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path

import torch
from torch import nn


class Payload:
    """Unpickling this runs a shell command that leaves a file behind."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.witness}",)


class HostileNet(nn.Module):
    """A module with a payload among its attributes."""

    def __init__(self, witness: Path) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.extra = Payload(witness)


def hostile(kind: str, path: Path, witness: Path) -> Path:
    """A file whose naive loading runs the payload."""
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(Payload(witness)))
    elif kind == "zip":
        torch.save({"state_dict": {"w": torch.zeros(1)}, "extra": Payload(witness)}, path)
    elif kind == "legacy":
        torch.save([Payload(witness)], path, _use_new_zipfile_serialization=False)
    elif kind == "module":
        torch.save(nn.Sequential(HostileNet(witness)), path)
    elif kind == "dotted":
        # Reaches through a module the user may trust, for what that module merely imported.
        _save_global(path, "digits_net", "os.system", f"touch {witness}")
    elif kind == "imported":
        _save_global(path, "tests.checkpoint.reexporter", "system", f"touch {witness}")
    return path


def _save_global(path: Path, module: str, name: str, argument: str) -> None:
    text = argument.encode()
    data = b"\x80\x02c" + f"{module}\n{name}\n".encode()
    data += b"X" + struct.pack("<I", len(text)) + text + b"\x85R."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
