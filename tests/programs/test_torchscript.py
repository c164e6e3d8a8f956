"""A TorchScript archive becomes a source by way of ONNX, compared with the ScriptModule before it is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import SourceModel
from scconv_deploy.config import ExportConfig, shape_ranges
from scconv_deploy.errors import InputError
from scconv_deploy.programs import torchscript
from scconv_deploy.programs.audit_torchscript import audit, called, clean_script, tokens
from scconv_deploy.programs.program_runner import ModuleRunner
from tests.programs import archives
from tests.programs.archives import Host, X


def config(*shapes: str) -> ExportConfig:
    return ExportConfig(target="onnx", shapes=shape_ranges(shapes))


def load(path: Path, *shapes: str) -> SourceModel:
    return torchscript.load(path, config(*shapes or ("2x3x10x12",)))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)])
        self.scale = 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(x).relu() * self.scale
        return x


@pytest.mark.parametrize("freeze", [False, True])
def test_a_traced_network(freeze: bool, tmp_path: Path) -> None:
    net = Host("F3").eval()
    found = load(archives.traced(tmp_path / "m.pt", net, freeze))
    assert found.inputs[0].shape == ("batch", 3, 10, 12)
    assert found.kind == "TorchScript archive"
    assert found.sha256 is not None
    with torch.no_grad():
        torch.testing.assert_close(found.module(X), net(X), rtol=1e-4, atol=1e-5)
        assert found.original is not None
        theirs = found.original.run({"x": X.numpy()})
        np.testing.assert_allclose(theirs["output"], net(X).numpy(), rtol=1e-5, atol=1e-6)


def test_a_scripted_network(tmp_path: Path) -> None:
    net = Plain().eval()
    found = load(archives.scripted(tmp_path / "m.pt", net))
    assert found.inputs[0].name == "x"
    with torch.no_grad():
        torch.testing.assert_close(found.module(X), net(X), rtol=1e-5, atol=1e-5)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.conv(left), self.conv(right).mean((2, 3))


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    path = archives.scripted(tmp_path / "m.pt", Pair())
    found = load(path, "right:2x3x8x8", "left:2x3x6x6")
    assert [s.name for s in found.inputs] == ["left", "right"]
    assert found.original is not None
    arrays = {"left": np.ones((2, 3, 6, 6), np.float32), "right": np.ones((2, 3, 8, 8), np.float32)}
    assert [a.shape for a in found.original.run(arrays).values()] == [(2, 4, 4, 4), (2, 4)]
    with pytest.raises(InputError, match="shape of input 'right' is missing"):
        load(path, "left:2x3x6x6")
    with pytest.raises(InputError, match=r"no input 'lefd' \(it has left, right\); did you mean 'left'"):
        load(path, "lefd:2x3x6x6", "right:2x3x8x8")
    with pytest.raises(InputError, match="--input-shape left:1x3x224x224 --input-shape right"):
        torchscript.load(path, ExportConfig(target="onnx"))


class Baked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).view(int(x.shape[0]), -1)


def test_a_batch_that_was_written_in_stays_fixed(tmp_path: Path) -> None:
    found = load(archives.traced(tmp_path / "m.pt", Baked()))
    assert found.inputs[0].shape == (2, 3, 10, 12)
    assert any("batch size written into it" in n for n in found.notes)


class Mixing(nn.Module):
    """Runs at any batch, but every result depends on all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y - y.mean(0, keepdim=True)


def test_a_batch_whose_samples_mix_stays_fixed(tmp_path: Path) -> None:
    assert load(archives.scripted(tmp_path / "m.pt", Mixing())).inputs[0].shape == (2, 3, 10, 12)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    found = load(archives.scripted(tmp_path / "m.pt", Plain().half()))
    assert "converted to float32" in found.notes[0]
    assert {p.dtype for p in found.module.parameters()} <= {torch.float32}


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.mean() > 0):
            return x + 1
        return x


class Mapped(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": x}


class Optioned(nn.Module):
    def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
        return x * times


@pytest.mark.parametrize(
    ("net", "said"),
    [(Branching(), "If"), (Mapped(), "returns a dictionary"), (Optioned(), "takes 'times' of type int")],
    ids=["branch", "dictionary", "number"],
)
def test_what_cannot_be_an_artifact_is_refused(
    net: nn.Module, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load(archives.scripted(tmp_path / "m.pt", net))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


def test_a_shape_that_it_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not run on x"):
        load(archives.scripted(tmp_path / "m.pt", Plain()), "1x4x8x8")


def test_a_different_conversion_is_refused() -> None:
    """The broken twin: one weight of the ONNX model is doubled."""
    module = torch.jit.script(Plain().eval())
    spec = torchscript.script_inputs(module, "m.pt", shape_ranges(["2x3x10x12"]))
    runner = ModuleRunner(module, spec, "m.pt")
    model = torchscript.to_onnx(runner, 0)
    torchscript.refuse_different(runner, model, 0)
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 2, weight.name))
    with pytest.raises(InputError, match="compute different results"):
        torchscript.refuse_different(runner, model, 0)


def test_a_module_in_memory_is_left_alone() -> None:
    module = torch.jit.script(Plain().train())
    found = torchscript.from_module(module, config("2x3x10x12"))
    assert module.training
    assert found.kind == "ScriptModule in memory"
    with torch.no_grad():
        torch.testing.assert_close(found.module(X), module(X), rtol=1e-5, atol=1e-5)


def test_what_torch_reads_is_the_audited_copy(tmp_path: Path) -> None:
    path = archives.traced(tmp_path / "m.pt", Host("F1"))
    entries = archives.contents(path)
    added = archives.written(tmp_path / "n.pt", {**entries, "extra/readme": b"hello", "data/x.bin": b"1"})
    copied = archives.written(tmp_path / "c.pt", {})
    copied.write_bytes(clean_script(audit(added)).getvalue())
    names = set(archives.contents(copied))
    assert names < set(entries)
    assert not any(n.endswith(".debug_pkl") or n.startswith(("extra", "traced_inputs")) for n in names)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(str(copied))(X), torch.jit.load(str(path))(X))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("y = torch.conv2d(x, w)", ["aten::conv2d"]),
        ("y = ops.prim.NumToTensor(torch.size(x, 0))", ["prim::NumToTensor", "aten::size"]),
        ('s = "torch.save(x)" # while torch.save(x)\nz = (self.save_me).forward(x, )', []),
        ("ops = self.ops", []),
    ],
)
def test_operators_are_read_from_tokens(text: str, names: list[str]) -> None:
    assert list(called(tokens(text))) == names


@pytest.mark.parametrize(
    "text",
    [
        'torch . save(x, "f")',
        'torch.\\\nsave(x, "f")',
        'x.# why\nsave("f")',
        "''' \"\"\" ''' ; torch.save(x)",
        "y = 'it\\'s' ; torch.save(x)",
        "ops . image . read_file(p)",
        "f = ops.aten.save",
        "g = torch.save",
        'getattr(torch, "neg")(x)',
        'getattr(\nx,\n"from_file")("f")',
        "z = __torch__.torch.classes.a.B()",
        "for i in range(3): pass",
    ],
)
def test_disguises_do_not_help(text: str) -> None:
    with pytest.raises(InputError):
        list(called(tokens(text)))
