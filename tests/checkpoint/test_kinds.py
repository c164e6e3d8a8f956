"""Every kind of model file is known by its content, whatever it is called, and none is executed."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.kinds import Kind, kind_of
from scconv_deploy.errors import InputError


def written(kind: Kind, path: Path) -> Path:
    net = nn.Conv2d(1, 2, 3)
    if kind is Kind.TORCH_ZIP:
        torch.save(net.state_dict(), path)
    elif kind is Kind.TORCH_LEGACY:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    elif kind is Kind.TORCHSCRIPT:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(net).save(str(path))
    elif kind is Kind.EXPORTED_PROGRAM:
        with path.open("wb") as stream:
            torch.export.save(torch.export.export(net, (torch.zeros(1, 1, 4, 4),)), stream)
    elif kind is Kind.SAFETENSORS:
        header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    elif kind is Kind.ONNX:
        graph = onnx.helper.make_graph([], "empty", [], [])
        path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    else:
        path.write_text("epoch 1: loss 0.3\n")
    return path


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "model"])
def test_content_decides_not_the_name(kind: Kind, name: str, tmp_path: Path) -> None:
    assert kind_of(written(kind, tmp_path / name)) is kind


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # one byte of ONNX
        b"\x08\x00",
        b"{}",
        struct.pack("<Q", 2**60) + b"{",  # a header longer than the file
        struct.pack("<Q", 5) + b"{oops",
        b"\x80\x02",
    ],
)
def test_scraps_are_unknown(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scrap.pt"
    path.write_bytes(data)
    assert kind_of(path) is Kind.UNKNOWN


def test_a_truncated_zip_is_said_to_be_cut_short(tmp_path: Path) -> None:
    path = written(Kind.TORCH_ZIP, tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="cut short"):
        kind_of(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        kind_of(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match="is a folder"):
        kind_of(tmp_path)
    (tmp_path / "empty.pt").touch()
    with pytest.raises(InputError, match="is empty"):
        kind_of(tmp_path / "empty.pt")
