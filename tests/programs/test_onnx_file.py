"""ONNX sources: found, certified, lowered, and equal to the file in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import scconv_deploy
from scconv_deploy.artifacts import Recognition, SourceModel
from scconv_deploy.config import ExportConfig, ShapeRange
from scconv_deploy.errors import InputError
from scconv_deploy.programs.onnx_file import declared_inputs, from_model
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.reference.families import FAMILIES, scconv
from scconv_deploy.scconv.reference.units import ReferenceSCConv
from scconv_deploy.scconv.spec import GammaWeight, Order, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower, recognise
from tests.programs.naive import EXPORTERS, C, Residual, by_tracer, family_net, shaken, stripped
from tests.recognition.generated import Draw, user_module
from tests.recognition.near_misses import NEAR_MISSES

CONFIG = ExportConfig(target="onnx")


def source(model: onnx.ModelProto) -> SourceModel:
    return from_model(model, "net.onnx", "ONNX model", CONFIG)


def found(model: onnx.ModelProto) -> Recognition:
    return recognise.run(source(model).module)


def lowered_error(model: onnx.ModelProto, shape: tuple[int, ...]) -> float:
    """Largest difference between the lowered module and the file itself in ONNX Runtime."""
    made = source(model)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    low = lower.run(made, recognise.run(made.module), GraphStyle(), (x,), made.inputs)
    assert made.original is not None
    with made.original as runner:
        (theirs,) = runner.run({made.inputs[0].name: x.numpy()}).values()
    with torch.no_grad():
        ours = low.module(x).numpy()
    assert np.abs(theirs).max() > 1e-3
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_found_under_its_own_path(family: str, exporter: str) -> None:
    model = family_net(family, exporter)
    (block,) = found(model).blocks
    assert block.path == "layers.0"
    assert block.spec.sru is not None
    assert block.spec.cru is not None
    assert block.spec.sru.gate is FAMILIES[family].gate
    assert block.spec.sru.gated is FAMILIES[family].gated
    assert block.spec.cru.fuse is FAMILIES[family].fuse
    assert block.spec.sru.gamma_weight is GammaWeight.STORED
    assert lowered_error(model, (1, 3, 8, 8)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_without_any_names_the_same_is_found(family: str) -> None:
    model = stripped(family_net(family, "tracer"))
    (block,) = found(model).blocks
    assert block.path == "scconv_1"
    assert block.spec == found(family_net(family, "tracer")).blocks[0].spec


def test_units_alone() -> None:
    spec = scconv("F3", C).spec
    net = shaken(
        Residual(ReferenceSCConv(SCConvSpec(spec.sru, None)), ReferenceSCConv(SCConvSpec(None, spec.cru)))
    )
    blocks = found(by_tracer(net)).blocks
    assert [(b.path, b.spec.sru is None, b.spec.cru is None) for b in blocks] == [
        ("layers.0.sru", False, True),
        ("layers.1.cru", True, False),
    ]


def test_cru_before_sru() -> None:
    spec = scconv("F3", C).spec
    net = shaken(Residual(ReferenceSCConv(SCConvSpec(spec.sru, spec.cru, Order.CRU_SRU))))
    (block,) = found(by_tracer(net)).blocks
    assert block.spec.order is Order.CRU_SRU
    assert block.path == "layers.0"


def test_blocks_in_sequence_and_a_shared_one() -> None:
    torch.manual_seed(0)
    first, second = scconv("F3", C), scconv("F1", C)
    net = shaken(nn.Sequential(nn.Conv2d(3, C, 1), first, second, nn.Conv2d(C, C, 1), first))
    model = by_tracer(net)
    blocks = found(model).blocks
    assert len(blocks) == 3
    assert {"1", "2"} <= {b.path for b in blocks}
    assert all(b.spec.sru and b.spec.cru for b in blocks)
    assert found(stripped(model)).blocks[1].spec == blocks[1].spec
    assert lowered_error(model, (1, 3, 8, 8)) < 1e-4


def test_the_block_may_be_the_whole_model() -> None:
    model = by_tracer(shaken(scconv("F3", C)), (1, C, 6, 7))
    (block,) = found(model).blocks
    assert block.spec.sru is not None
    assert block.spec.cru is not None
    assert lowered_error(model, (1, C, 6, 7)) < 1e-5


@pytest.mark.parametrize(
    "name",
    [
        "BatchNorm between",
        "max pooled",
        "threshold per sample",
        "sigmoid for softmax",
        "softmax per position",
    ],
)
def test_near_misses_are_not_accepted_and_still_run(name: str) -> None:
    make = dict(NEAR_MISSES)[name]
    torch.manual_seed(0)
    model = by_tracer(shaken(make()), (1, 8, 6, 7))
    blocks = found(model).blocks
    assert not any(b.spec.sru and b.spec.cru for b in blocks)
    assert lowered_error(model, (1, 8, 6, 7)) < 1e-4


def test_attention_and_squeeze_excitation_are_no_regions() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up, self.gn = nn.Conv2d(C, 4, 1), nn.Conv2d(4, C, 1), nn.GroupNorm(4, C)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.gn(x)
            x = y * torch.sigmoid(self.up(torch.relu(self.down(y.mean((2, 3), keepdim=True)))))
            flat = x.flatten(2)
            return (torch.softmax(flat @ flat.transpose(1, 2), -1) @ flat).view_as(x)

    recognition = found(by_tracer(shaken(Residual(Attention()))))
    assert recognition.blocks == ()
    assert recognition.left_as_is == ()


@pytest.mark.parametrize("index", range(0, 48, 6))
def test_generated_variants(index: int) -> None:
    _variant(index)


@pytest.mark.slow
@pytest.mark.parametrize("index", [i for i in range(48) if i % 6])
def test_more_generated_variants(index: int) -> None:
    _variant(index)


def _variant(index: int) -> None:
    draw = Draw(index, 48)
    spec = draw.spec()
    # A program pads with Slice and Concat in front of its convolution: no padding mode is left to be seen.
    padded = spec.cru is not None and spec.cru.gwc.padding_mode != "zeros"
    module = user_module(draw).float()
    model = by_tracer(module, (2, spec.c_in, 20, 20))
    blocks = found(model).blocks
    if padded:
        assert not any(b.spec.cru for b in blocks)
        return
    (block,) = blocks
    assert (block.spec.sru is None, block.spec.cru) == (spec.sru is None, spec.cru)
    if spec.sru and block.spec.sru:
        assert block.spec.sru.gate is spec.sru.gate
        assert block.spec.sru.reconstruct is spec.sru.reconstruct


def test_half_precision_files_are_read_in_float32() -> None:
    model = family_net("F3", "tracer")
    half = by_tracer(shaken(Residual(scconv("F3", C))).half().float())
    for tensor in half.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in [*half.graph.input, *half.graph.output]:
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    del half.graph.value_info[:]
    for node in half.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(values))
    made = source(half)
    assert "float16" in made.notes[0]
    assert made.inputs[0].dtype == "float32"
    assert {p.dtype for p in made.module.parameters()} == {torch.float32}
    assert len(recognise.run(made.module).blocks) == len(found(model).blocks)


def test_inputs_say_what_the_program_fixes() -> None:
    (fixed,) = declared_inputs(family_net("F3", "dynamo"), "net")
    assert fixed.minimum == fixed.optimum == fixed.maximum == (1, 3, 8, 8)
    (free,) = declared_inputs(family_net("F3", "tracer"), "net")
    assert free.shape == ("N", 3, 8, 8)
    assert (free.minimum[0], free.optimum[0]) == (1, 0)


def test_export_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    onnx.save(family_net("F3", "tracer"), path)
    bundle = scconv_deploy.export(path, target="onnx", out=tmp_path / "out")
    assert bundle.parity is not None
    assert bundle.parity.verdict.value == "PASS", bundle.parity.sentence
    made = onnx.load(bundle.artifact)
    compared = {v for n in made.graph.node if n.op_type == "Greater" for v in n.input}
    sigmoids = {v for n in made.graph.node if n.op_type == "Sigmoid" for v in n.output}
    assert compared
    assert not compared & sigmoids
    assert [o.name for o in made.graph.output] == ["y"]
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    with OnnxRunner(path) as old, OnnxRunner(bundle.artifact) as new:
        difference = np.abs(old.run({"x": x})["y"] - new.run({"x": x})["y"]).max()
    assert difference < 1e-5


def test_a_program_needs_no_factory(tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    onnx.save(family_net("F3", "tracer"), path)
    with pytest.raises(InputError, match=r"--factory .* does not apply"):
        scconv_deploy.export(path, target="onnx", out=tmp_path / "out", factory="scconv_resnet50")


def test_shapes_the_program_does_not_take_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    onnx.save(family_net("F3", "dynamo"), path)
    shape = (2, 3, 8, 8)
    with pytest.raises(InputError, match="axis 0 of input 'x' is 1 in the program"):
        scconv_deploy.export(
            path, target="onnx", out=tmp_path / "o", shapes=(ShapeRange("x", shape, shape, shape),)
        )
