"""A ``.pt2`` file becomes a module with the user's own paths in which the SCConv blocks are found and certified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import SourceModel
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import InputError
from scconv_deploy.programs import exported
from scconv_deploy.recognition.walk import recognise
from tests.programs import archives
from tests.programs.archives import Host, X
from tests.recognition.generated import Draw, user_module

CONFIG = ExportConfig(target="onnx")


def load(path: Path) -> SourceModel:
    return exported.load(path, CONFIG)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("family", ["F0", "F1", "F2", "F3", "paper"])
def test_blocks_are_found_at_the_users_own_paths(family: str, free: bool, tmp_path: Path) -> None:
    net = Host(family).eval()
    found = load(archives.exported(tmp_path / "m.pt2", net, free))
    with torch.no_grad():
        torch.testing.assert_close(found.module(X), net(X), rtol=1e-6, atol=1e-6)
    blocks = recognise(found.module).blocks
    assert [(b.path, b.variant) for b in blocks] == [("block", family)]
    assert blocks[0].certificate.worst_error < 1e-10
    spec = found.inputs[0]
    assert spec.shape == (("batch", 3, 10, 12) if free else (2, 3, 10, 12))
    assert (spec.minimum[0], spec.optimum[0], spec.maximum[0]) == ((1, 2, 16) if free else (2, 2, 2))
    assert any("fixed shapes" in n for n in found.notes) == (not free)
    assert isinstance(found.module.get_submodule("stem.1"), nn.BatchNorm2d)


# Padding modes, strides, views instead of pools, sums in a loop: see tests/recognition/generated.py.
@pytest.mark.parametrize("index", [4, 8, 9, 16, 23, 24, 37, 50])
def test_users_spellings_are_found_in_fixed_programs(index: int, tmp_path: Path) -> None:
    torch.manual_seed(index)
    draw = Draw(index, 72)
    module = user_module(draw)
    dtype = next(module.parameters()).dtype
    net = nn.Sequential(nn.Conv2d(3, draw.spec().c_in, 3, padding=1), module).to(dtype).eval()
    x = torch.randn(2, 3, 10, 20).to(dtype)
    found = load(archives.exported(tmp_path / "m.pt2", net, x=x))
    ours, theirs = recognise(found.module).blocks, recognise(net).blocks
    assert [b.path for b in ours] == [b.path for b in theirs]
    assert [b.spec for b in ours] == [b.spec for b in theirs]


class Broken(Host):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block.sru(self.stem(x))
        sizes = y.shape
        # Half of the positions change places: no view of the block's own input is meant here.
        y = y.reshape(sizes[0], sizes[1], 2, -1).flip(2).reshape(sizes)
        return self.head(self.block.cru(y))


def test_a_block_that_is_none_stays_a_graph(tmp_path: Path) -> None:
    """The broken twin: reading sizes from near by finds no block where there is none, and changes nothing."""
    net = Broken().eval()
    found = load(archives.exported(tmp_path / "m.pt2", net))
    with torch.no_grad():
        torch.testing.assert_close(found.module(X), net(X), rtol=1e-6, atol=1e-6)
    assert "block" not in [b.path for b in recognise(found.module).blocks]


@pytest.mark.parametrize("kind", [dict, list])
def test_trees_of_outputs_are_kept(kind: type, tmp_path: Path) -> None:
    net = Host(kind=kind).eval()
    found = load(archives.exported(tmp_path / "m.pt2", net))
    with torch.no_grad():
        torch.testing.assert_close(found.module(X), net(X))
    assert found.original is not None
    names = list(found.original.run({"x": X.numpy()}))
    assert names == (["map", "mean"] if kind is dict else ["output_0", "output_1"])


def test_the_program_itself_is_what_is_compared_with(tmp_path: Path) -> None:
    net = Host("F1").eval()
    path = archives.exported(tmp_path / "m.pt2", net, free=True)
    original = load(path).original
    assert original is not None
    x = np.random.default_rng(1).standard_normal((3, 3, 10, 12), dtype=np.float32)
    theirs = torch.export.load(path).module()(torch.from_numpy(x))
    with original:
        np.testing.assert_array_equal(original.run({"x": x})["output"], theirs.detach().numpy())
    with pytest.raises(InputError, match="takes the inputs x, not y"):
        original.run({"y": x})
    with pytest.raises(InputError, match="does not run on"):
        original.run({"x": x[:, :2]})


def test_half_precision_programs_are_read_in_float32(tmp_path: Path) -> None:
    net = Host("F3").half().eval()
    found = load(archives.exported(tmp_path / "m.pt2", net, x=X.half()))
    assert found.original is None
    assert any("half precision" in n for n in found.notes)
    module = found.module.float()
    wide = Host("F3").half().float().eval()
    with torch.no_grad():
        torch.testing.assert_close(module(X), wide(X), rtol=1e-5, atol=1e-5)
    assert [b.path for b in recognise(found.module).blocks] == ["block"]


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, image: torch.Tensor, *, extra: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.conv(image) + extra["shift"].mean()


def test_inputs_are_passed_by_position_whatever_their_tree(tmp_path: Path) -> None:
    net, more = Several().eval(), {"extra": {"shift": torch.ones(5)}}
    torch.export.save(torch.export.export(net, (X,), kwargs=more), tmp_path / "m.pt2")
    found = load(tmp_path / "m.pt2")
    assert [s.shape for s in found.inputs] == [(2, 3, 10, 12), (5,)]
    torch.testing.assert_close(found.module(X, torch.ones(5)), net(X, **more))


def test_a_program_in_memory(tmp_path: Path) -> None:
    net = Host("F2").eval()
    program = torch.export.export(net, (X,))
    before = str(program.graph)
    found = exported.from_program(program, CONFIG)
    assert [b.path for b in recognise(found.module).blocks] == ["block"]
    assert found.sha256 is None
    assert str(program.graph) == before


def test_training_mode_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    torch.export.save(torch.export.export(net, (X,)), tmp_path / "a.pt2")
    dropping = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout()).train()
    torch.export.save(torch.export.export(dropping, (X,)), tmp_path / "b.pt2")
    for name in ("a.pt2", "b.pt2"):
        with pytest.raises(InputError, match=r"call model\.eval"):
            load(tmp_path / name)


def test_an_old_form_is_named(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("version", "8.3")
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(InputError, match=r"torch 2\.7 or earlier"):
        load(tmp_path / "m.pt2")
