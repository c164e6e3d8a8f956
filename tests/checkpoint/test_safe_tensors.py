"""Headers of safetensors files are checked before a tensor is read; every damage is a sentence."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scconv_deploy.checkpoint.safe_tensors import read_header, read_safetensors
from scconv_deploy.errors import InputError


def entry(shape: object, begin: object, end: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def written(path: Path, header: Any, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_numbers_come_back_in_their_places(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "later": entry([3], 8, 20, "I32"),
        "first": entry([2, 2], 0, 8, "BF16"),
        "empty": entry([0, 5], 20, 20),
        "scalar": entry([], 20, 21, "BOOL"),
    }
    brain = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.bfloat16)
    data = brain.view(torch.int16).numpy().tobytes() + struct.pack("<3i", 5, -6, 7) + b"\x01"
    found = read_safetensors(written(tmp_path / "w", header, data))
    assert list(found) == ["later", "first", "empty", "scalar"]
    assert torch.equal(found["first"], brain)
    assert found["first"].dtype is torch.bfloat16
    assert found["later"].tolist() == [5, -6, 7]
    assert found["empty"].shape == (0, 5)
    assert found["scalar"].item() is True


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, "overlap"),
        ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, "overlap"),
        ({"a": entry([1], 4, 8)}, "leave a gap"),
        ({"a": entry([1], 0, 4)}, "describes 4 bytes of tensors and holds 8"),
        ({"a": entry([4], 0, 16)}, "describes 16 bytes of tensors and holds 8"),
        ({"a": entry([3], 0, 8)}, "does not fill"),
        ({"a": entry([2], 8, 0)}, "does not fill"),
        ({"a": entry([-2], 0, -8)}, "negative or senseless"),
        ({"a": entry([2.0], 0, 8)}, "negative or senseless"),
        ({"a": entry([True, 2], 0, 8)}, "negative or senseless"),
        ({"a": entry([2], 0, 8, "F31")}, "cannot read"),
        ({"a": entry([2], 0, 8, ["F32"])}, "cannot read"),
        ({"a": {"dtype": "F32"}}, "cannot read"),
        ([entry([2], 0, 8)], "no valid JSON"),
    ],
)
def test_a_forged_header_is_refused(header: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_header(written(tmp_path / "w", header, bytes(8)))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "w", {"a": entry([2], 0, 8)}, bytes(8)).read_bytes()
    assert set(read_header(tmp_path / "w")[0]) == {"a"}
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short"):
            read_header(tmp_path / "cut")


def test_a_tensor_of_countless_axes_is_refused_at_once(tmp_path: Path) -> None:
    # Before ranks were limited, the product of this shape took 4.7 s, and growing with the square.
    path = written(tmp_path / "w", {"a": entry([1 << 61] * 50_000, 0, 8)}, bytes(8))
    start = time.process_time()
    with pytest.raises(InputError, match="senseless"):
        read_header(path)
    assert time.process_time() - start < 1
    with pytest.raises(InputError, match="senseless"):
        read_header(written(path, {"a": entry([1] * 64 + [2], 0, 8)}, bytes(8)))
    assert read_header(written(path, {"a": entry([1] * 63 + [2], 0, 8)}, bytes(8)))[1] > 8
