"""Small networks of every build, exported through the pipeline and served: names, shapes, sizes, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import Bundle
from scconv_deploy.config import ExportConfig, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import InputError
from scconv_deploy.pipeline import run_export
from scconv_deploy.runtime.engine import open_bundle
from scconv_deploy.scconv import zoo
from scconv_deploy.scconv.reference.families import scconv
from scconv_deploy.verdicts import Verdict

X = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))


def block(family: str = "F3") -> nn.Module:
    """A block with trained-looking norm parameters."""
    torch.manual_seed(0)
    made = scconv(family, 16)
    for parameter in made.parameters():
        if parameter.ndim in (1, 3):
            nn.init.normal_(parameter, 0.5, 0.5)
    return made.eval()


def export(net: nn.Module, out: Path, *example: Tensor, **changes: object) -> Bundle:
    """Export in process and check what holds for every bundle."""
    settings = replace(ExportConfig(target="onnx", out=out), **changes)  # type: ignore[arg-type]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    bundle = run_export(net, settings, Silence(), example_inputs=example or None)
    assert bundle.parity is None or bundle.parity.verdict is Verdict.PASS
    after = net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    model = onnx.load(bundle.artifact)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert {o.domain for o in model.opset_import} == {""}
    assert str(Path.cwd()) not in model.SerializeToString().decode("latin-1")
    json.dumps(dict(bundle.manifest), allow_nan=False)
    with open_bundle(bundle.path, threads=1, verify="golden"):
        return bundle


def piece_names(bundle: Bundle) -> list[str]:
    assert bundle.parity is not None
    return [p.piece for p in bundle.parity.pieces]


@pytest.mark.parametrize("opset", [18, 21, 23])
def test_the_whole_model_is_one_block(opset: int, tmp_path: Path) -> None:
    bundle = export(block("paper"), tmp_path / "b", X, opset=opset)
    assert piece_names(bundle) == ["the model"]


def test_blocks_in_containers(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([block("paper"), nn.Sequential(block("F3"))])

        def forward(self, x: Tensor) -> Tensor:
            for part in self.parts:
                x = part(x)
            return x

    assert piece_names(export(Net(), tmp_path / "b", X)) == ["parts.0", "parts.1.0"]


@pytest.mark.parametrize("simplify", [True, False])
@pytest.mark.parametrize("same_name", [True, False])
def test_one_module_at_two_places(same_name: bool, simplify: bool, tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = block()
            self.middle = nn.Conv2d(16, 16, 3, padding=1)
            if not same_name:
                self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            second = self.first if same_name else self.second
            return second(self.middle(self.first(x)))

    bundle = export(Net().eval(), tmp_path / "b", X, simplify=simplify)
    assert bundle.parity is not None
    assert any("does not run exactly once" in note for note in bundle.parity.notes)


def test_two_inputs_and_a_dictionary_out(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block()
            self.head = nn.Linear(16, 4)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            y = self.block(x)
            return {"features": y, "logits": self.head(y.mean((2, 3))) * labels[:, None].float()}

    net, labels = Net().eval(), torch.tensor([1, 0])
    bundle = export(net, tmp_path / "b", X, labels)
    with open_bundle(bundle.path) as engine:
        got = engine.run({"labels": np.ones(5, np.int64), "x": np.ones((5, 16, 8, 8), np.float32)})
        with pytest.raises(InputError, match="'labels' must be int64"):
            engine.run({"labels": np.ones(5, np.float32), "x": np.ones((5, 16, 8, 8), np.float32)})
    with torch.no_grad():
        want = net(torch.ones(5, 16, 8, 8), torch.ones(5))
    assert {k: v.shape for k, v in got.items()} == {k: tuple(v.shape) for k, v in want.items()}
    np.testing.assert_allclose(got["logits"], want["logits"].numpy(), atol=1e-5)


def test_a_tuple_out(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.block(x)
            return y, y.amax((2, 3))

    bundle = export(Net().eval(), tmp_path / "b", X)
    with open_bundle(bundle.path) as engine:
        assert engine.output_names == ("output_0", "output_1")
        assert [a.shape for a in engine(X.numpy())] == [(2, 16, 8, 8), (2, 16)]


def test_an_output_named_like_an_input(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": self.block(x)}

    bundle = export(Net().eval(), tmp_path / "b", X)
    with open_bundle(bundle.path) as engine:
        assert engine.output_names == ("x_out",)


def test_outputs_that_are_inputs_or_each_other(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = self.block(x)
            return y, x, y

    net = Net().eval()
    bundle = export(net, tmp_path / "b", X)
    with open_bundle(bundle.path) as engine:
        got = engine(X.numpy())
    with torch.no_grad():
        for want, found in zip(net(X), got, strict=True):
            np.testing.assert_allclose(found, want.numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_widths_are_exported_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    net = nn.Sequential(block(), nn.BatchNorm2d(16)).eval().to(dtype)
    bundle = export(net, tmp_path / "b", X.to(dtype))
    assert any("converted to float32" in str(note) for note in bundle.manifest["notes"])  # type: ignore[union-attr]


def test_a_batch_norm_behind_a_block_is_folded_and_checked(tmp_path: Path) -> None:
    net = nn.Sequential(block("paper"), nn.BatchNorm2d(16), nn.ReLU(inplace=True)).eval()
    nn.init.normal_(net[1].weight)
    net[1].running_mean.normal_()
    bundle = export(net, tmp_path / "b", X)
    assert "0" in piece_names(bundle)
    model = onnx.load(bundle.artifact)
    assert not any(n.op_type == "BatchNormalization" for n in model.graph.node)


def test_a_shape_the_model_refuses(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 1), block()).eval()
    with pytest.raises(InputError, match=r"does not run on inputs of this shape .*\(1, 4, 8, 8\)"):
        export(net, tmp_path / "b", shapes=shape_ranges(["1x4x8x8"]))
    assert list(tmp_path.iterdir()) == []


def test_dynamic_sizes_with_a_multiple_end_to_end(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = zoo.build("scconv_resnet50", width=8, blocks=[1, 1, 1, 1], num_classes=3)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 3, 64, 64))
    shapes = shape_ranges((), ["1x3x32x32"], ["1x3x64x64"], ["4x3x100x100"])
    bundle = export(net.eval(), tmp_path / "b", shapes=shapes)
    assert any("multiple of 32" in str(note) for note in bundle.manifest["notes"])  # type: ignore[union-attr]
    with open_bundle(bundle.path) as engine:
        for shape in ((1, 3, 32, 96), (4, 3, 96, 64)):
            assert engine(np.ones(shape, np.float32)).shape == (shape[0], 3)  # type: ignore[union-attr]
        for shape, message in (
            ((1, 3, 48, 64), "must be a multiple of 32"),
            ((1, 3, 128, 64), "takes 32 to 96"),
            ((5, 3, 64, 64), "takes 1 to 4"),
        ):
            with pytest.raises(InputError, match=message):
                engine(np.ones(shape, np.float32))
    assert bundle.parity is not None
    assert len({c.case for c in bundle.parity.comparisons}) >= 4


def test_dynamic_sizes_without_a_multiple(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), block("F3")).eval()
    shapes = shape_ranges((), ["1x3x7x8"], ["1x3x9x8"], ["2x3x15x17"])
    bundle = export(net, tmp_path / "b", shapes=shapes)
    with open_bundle(bundle.path) as engine:
        assert engine(np.ones((2, 3, 11, 13), np.float32)).shape == (2, 16, 6, 7)  # type: ignore[union-attr]


def test_without_verification(tmp_path: Path) -> None:
    bundle = export(block(), tmp_path / "b", X, verify=False)
    assert bundle.parity is None
    assert bundle.manifest["verification"] is None


def test_a_model_that_fixes_its_batch_is_exported_with_it_and_says_so(tmp_path: Path) -> None:
    class FixedBatch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block()

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x).reshape(2, 16 * 64)

    bundle = export(FixedBatch().eval(), tmp_path / "b", X)
    assert any("the batch is fixed at 2" in str(note) for note in bundle.manifest["notes"])  # type: ignore[union-attr]
    with open_bundle(bundle.path) as engine:
        assert engine(X.numpy()).shape == (2, 1024)  # type: ignore[union-attr]
        with pytest.raises(InputError, match="takes 2"):
            engine(X.numpy()[:1])


def test_two_inputs_of_different_dynamic_sizes(tmp_path: Path) -> None:
    class TwoScales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block()

        def forward(self, image: Tensor, small: Tensor) -> Tensor:
            return self.block(image).mean((2, 3)) + small.mean((2, 3))

    shapes = shape_ranges(
        (),
        ["image:1x16x8x8", "small:1x16x4x4"],
        ["image:1x16x8x8", "small:1x16x4x4"],
        ["image:2x16x16x16", "small:2x16x8x8"],
    )
    bundle = export(TwoScales().eval(), tmp_path / "b", shapes=shapes)
    with open_bundle(bundle.path) as engine:
        got = engine(np.ones((2, 16, 11, 9), np.float32), np.ones((2, 16, 5, 7), np.float32))
    assert got.shape == (2, 16)  # type: ignore[union-attr]
