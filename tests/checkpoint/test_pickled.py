"""The symbolic reading of a pickle sees what torch reads, and spends no more than its budget."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from scconv_deploy.checkpoint.archive import outline
from scconv_deploy.checkpoint.facts import Inert, TensorFact
from scconv_deploy.checkpoint.inert import load_inert
from scconv_deploy.checkpoint.pickled import PickleReader
from scconv_deploy.checkpoint.state import choose_state, modules, tensors
from scconv_deploy.errors import InputError
from tests.checkpoint.modelfiles import Plain, network, saved

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16,
    torch.int32, torch.int64, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.uint16,
)  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_and_view(dtype: torch.dtype, legacy: bool, tmp_path: Path) -> None:
    whole = torch.zeros(4, 6).to(dtype)
    content = {"w": whole, "t": whole.t(), "part": whole[1:3, ::2], "one": whole[0, 0], "none": whole[:0]}
    path = tmp_path / "m.pt"
    try:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    except (KeyError, RuntimeError) as error:
        pytest.skip(f"torch cannot save this type so: {error}")
    read = outline(path).content
    assert {k: v.shape for k, v in read.items()} == {k: tuple(v.shape) for k, v in content.items()}
    assert {v.dtype for v in read.values()} == {str(dtype).removeprefix("torch.")}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "module",
    [
        Plain(depth=3),
        nn.Sequential(nn.LSTM(3, 4, 2), nn.MultiheadAttention(8, 2), nn.Embedding(5, 4)),
        nn.ModuleDict(
            {
                "a": nn.ParameterList([torch.ones(2)]),
                "b": nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
            }
        ),
    ],
)
def test_the_outline_has_what_the_file_has(module: nn.Module, legacy: bool, tmp_path: Path) -> None:
    path = saved(module.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    facts = tensors(outline(path).content)
    loaded = torch.load(path, weights_only=True)
    assert {k: v.shape for k, v in facts.items()} == {k: tuple(v.shape) for k, v in loaded.items()}


def test_inert_and_outline_agree_on_a_module(tmp_path: Path) -> None:
    net = network("F1")
    net.register_buffer("scratch", torch.zeros(2), persistent=False)
    path = saved(net, tmp_path / "m.pt")
    seen, read = choose_state(outline(path).content), choose_state(load_inert(path))
    assert seen is not None
    assert read is not None
    assert list(seen.state) == list(read.state)
    assert set(seen.state) == set(net.state_dict())
    assert all(torch.equal(read.state[k], v) for k, v in net.state_dict().items())
    assert isinstance(seen.module, Inert)
    assert {n for n, _ in modules(seen.module)} == {n for n, _ in net.named_modules()}


def test_an_expanded_tensor_is_legal(tmp_path: Path) -> None:
    path = saved({"w": torch.zeros(1, 3).expand(500, 3)}, tmp_path / "w.pt")
    assert outline(path).content["w"] == TensorFact((500, 3), "float32")


def test_what_goes_round_is_read_once(tmp_path: Path) -> None:
    net = Plain()
    net.layers[0].parent = [net]  # type: ignore[assignment]
    path = saved(net, tmp_path / "m.pt")
    assert set(tensors(load_inert(path))) == set(net.state_dict())


@pytest.mark.parametrize("data", [b"", b".", b"\x80\x02", b"\x80\x02t.", b"(.", b"h\x05.", b"\x80\x02cos\n."])
def test_scraps_end_in_a_sentence(data: bytes) -> None:
    reader = PickleReader(lambda _key: None)
    with pytest.raises(InputError, match=r"^[a-z]"):
        reader.read(data)


def test_a_budget_bounds_the_time() -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match="bomb"):
        PickleReader(lambda _key: None).read(b"N" * 20_000_000 + b".")
    assert time.perf_counter() - start < 10
