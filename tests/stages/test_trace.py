"""Traced graphs: module paths in node names, dynamic axes, opsets, and refusals in words."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import LoweredModel, Recognition, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Precision
from scconv_deploy.errors import InputError
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.precision import block_types, model_precision
from scconv_deploy.inputs import UNBOUNDED
from scconv_deploy.interpret.runner import TorchRunner
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.reference import constants
from scconv_deploy.scconv.typed import TORCH_TYPES
from scconv_deploy.stages import simplify, trace
from tests.scconv.axes import base, gwc
from tests.scconv.test_deploy import reference_of
from tests.stages.small import EXAMPLE, IMAGE, half_config, half_graph, half_lowered


def deploy(spec=None) -> DeploySCConv:  # type: ignore[no-untyped-def]
    module = reference_of(spec or base())
    return DeploySCConv(module.spec, constants(module)).float().eval()


def image(batch: bool = True, size: bool = False) -> TensorSpec:
    shape: list[int | str] = ["batch" if batch else 1, 8, *(("height", "width") if size else (6, 6))]
    top = (UNBOUNDED if batch else 1, 8, *((20, 24) if size else (6, 6)))
    low = (1, 8, *((4, 4) if size else (6, 6)))
    return TensorSpec("image", "float32", tuple(shape), low, (1, 8, 6, 6), top)


def traced(module: nn.Module, spec: TensorSpec, opset: int = 20, paths: tuple[str, ...] = ()) -> TracedGraph:
    lowered = LoweredModel(module.eval(), module, Recognition((), ()), paths, ())
    found = trace.run(lowered, (spec,), ExportConfig(target="onnx", opset=opset))
    onnx.checker.check_model(found.model, full_check=True)
    onnx.shape_inference.infer_shapes(found.model, check_type=True, strict_mode=True, data_prop=True)
    return found


def test_every_node_carries_its_module_path() -> None:
    module = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sequential(deploy(), nn.ReLU()))
    found = traced(module, image(), paths=("1.0",))
    names = [n.name for n in found.model.graph.node]
    assert len(set(names)) == len(names)
    assert sum(belongs_to(n, "1.0") for n in names) > 20
    assert any(belongs_to(n, "1.0.cru.gwc") for n in names)
    assert next(n.name for n in found.model.graph.node if n.op_type == "Relu").startswith("1.1/Relu_")
    assert belongs_to(names[0], "0")


def test_the_artifact_holds_no_trace_of_this_machine() -> None:
    data = traced(nn.Sequential(deploy()), image()).model.SerializeToString()
    for secret in (str(Path(__file__).parent), str(Path(trace.__file__).parent), "site-packages"):
        assert secret.encode() not in data


@pytest.mark.parametrize("size", [False, True])
def test_dynamic_axes_keep_their_names(size: bool) -> None:
    found = traced(nn.Sequential(deploy()), image(size=size))
    wanted = ["batch", 8, *(("height", "width") if size else (6, 6))]
    (value,) = found.model.graph.input
    assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == wanted
    assert list(found.outputs[0].shape) == wanted
    assert found.outputs[0].name == "output"


def test_a_part_of_a_multiple_is_named_after_it() -> None:
    """torch prints such an axis with its own symbol, as ``2*s42``."""
    sizes = {"minimum": (1, 3, 8, 8), "optimum": (1, 3, 12, 12), "maximum": (4, 3, 32, 32)}
    spec = TensorSpec("image", "float32", ("batch", 3, "height", "width"), multiple_of={2: 4, 3: 4}, **sizes)
    graph = traced(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()), spec)
    assert graph.outputs[0].shape == ("batch", 8, "2*height_by_4", "2*width_by_4")
    (given,) = graph.model.graph.input
    assert [d.dim_param for d in given.type.tensor_type.shape.dim][2:] == ["4*height_by_4", "4*width_by_4"]
    onnx.checker.check_model(graph.model, full_check=True)


def test_a_static_batch() -> None:
    assert traced(nn.Sequential(deploy()), image(batch=False)).outputs[0].shape == (1, 8, 6, 6)


@pytest.mark.parametrize("opset", [18, 20, 21, 23])
def test_opsets(opset: int) -> None:
    found = traced(nn.Sequential(deploy()), image(), opset)
    assert {o.domain: o.version for o in found.model.opset_import} == {"": opset}


def test_an_opset_the_model_could_not_be_written_in() -> None:
    graph = onnx.helper.make_graph([], "g", [], [])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    trace._check_opset(model, 21)
    with pytest.raises(InputError, match=r"opset 20 was asked for.*use --opset 21"):
        trace._check_opset(model, 20)


def test_other_padding_is_traced_through_pytorch() -> None:
    found = traced(nn.Sequential(deploy(gwc(3, mode="reflect"))), image(), paths=("0",))
    assert any(n.op_type == "Pad" and belongs_to(n.name, "0") for n in found.model.graph.node)


def test_the_lowered_module_is_left_alone() -> None:
    module = nn.Sequential(deploy()).eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    traced(module, image())
    assert isinstance(module[0], DeploySCConv)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


class Refuses(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        raise ValueError("no such size\nmore")


class NoTensors(nn.Module):
    def forward(self, image: Tensor) -> str:
        return "text"


class Mixed(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, float]:
        return image * 2, 3.0


class DataDependent(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image * 2 if image.sum() > 0 else image


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            Refuses(),
            r"does not run on inputs of this shape \(image \(2, 8, 6, 6\)\): ValueError: no such size",
        ),
        (NoTensors(), "returns a str without tensors"),
        (Mixed(), "values that are not tensors"),
        (DataDependent(), "cannot be traced"),
    ],
)
def test_refusals(module: nn.Module, message: str) -> None:
    before = builtins.sum
    with pytest.raises(InputError, match=message):
        traced(module, image())
    assert builtins.sum is before


def test_tracing_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    traced(nn.Sequential(deploy()), image())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("outside", [Precision.FP32, Precision.FP16, Precision.BF16])
@pytest.mark.parametrize("inside", [Precision.FP16, Precision.BF16])
def test_half_inside_and_any_type_outside(inside: Precision, outside: Precision) -> None:
    found = trace.run(half_lowered(inside), (IMAGE,), half_config(inside, io_dtype=outside))
    onnx.checker.check_model(found.model, full_check=True)
    onnx.shape_inference.infer_shapes(found.model, check_type=True, strict_mode=True, data_prop=True)
    name = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[outside.value]
    assert [t.dtype for t in (*found.inputs, *found.outputs)] == [name, name]
    assert found.inputs[0].name == IMAGE.name
    assert found.opset == {Precision.FP16: 20, Precision.BF16: 22}[inside]
    half = inside.value
    assert block_types(found.model, ("2",)) == {"2": {"convolutions": half, "gate": "fp32", "fuse": "fp32"}}
    assert model_precision(found.model) == half
    assert simplify.run(found, half_config(inside)).notes == found.notes


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_simplified_half_graphs_compute_as_the_typed_module(precision: Precision) -> None:
    graph = simplify.run(half_graph(precision), half_config(precision))
    with TorchRunner(graph.model) as runner:
        got = runner.run({IMAGE.name: EXAMPLE.numpy()})[graph.outputs[0].name]
    half = TORCH_TYPES[precision]
    with torch.no_grad():
        want = half_lowered(precision).module(EXAMPLE.to(half)).float().numpy()
    np.testing.assert_allclose(got, want, atol=4 * torch.finfo(half).eps * float(abs(want).max()), rtol=0)
    assert abs(2 * got - want).max() > 0.1 * abs(want).max()
