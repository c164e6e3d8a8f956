"""The program as a module: equal to torch, liftable, castable, exportable, foldable; inner values and forcing."""

from __future__ import annotations

import copy
import time

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from scconv_deploy.errors import InputError
from scconv_deploy.interpret.program import OnnxProgram, unsupported
from scconv_deploy.scconv.fold import fold_batch_norms
from tests.interpret.graphs import model
from tests.interpret.nets import FREE, NETS, exported, image, net

HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_naive_exports_equal_torch(name: str, dynamo: bool) -> None:
    program = OnnxProgram(exported(name, dynamo))
    assert unsupported(exported(name, dynamo)) == ()
    for x in (image(), image(3, 10, 14)):
        torch.testing.assert_close(program(x), net(name)(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_lifted_is_torch_in_float64(name: str) -> None:
    """Both round the weights to float32 first; nothing else is rounded, so 1e-6 is far above the difference."""
    program = OnnxProgram(exported(name, True), lift=torch.float64)
    made = program(image())
    wanted = copy.deepcopy(net(name)).double()(image().double()).detach()
    assert made.dtype is torch.float64
    torch.testing.assert_close(made, wanted, rtol=1e-6, atol=1e-6)
    plain = OnnxProgram(exported("bn", True), lift=torch.float64)
    assert all(p.dtype is torch.float64 for p in plain.parameters())


def test_a_swapped_comparison_is_another_function() -> None:
    """Broken twin: > for <= in the gate's graph."""
    broken = onnx.ModelProto()
    broken.CopyFrom(exported("F3", True))
    swapped = [n for n in broken.graph.node if n.op_type == "Greater"]
    assert swapped
    for node in swapped:
        node.op_type = "LessOrEqual"
    wanted = net("F3")(image()).detach()
    assert (
        OnnxProgram(broken)(image()) - wanted
    ).abs().max() > 1e-4  # ten times what an equal graph may differ


@pytest.mark.parametrize("name", ["F1", "F3"])
def test_torch_export_with_free_sizes(name: str) -> None:
    program = OnnxProgram(exported(name, True))
    again = torch.export.export(program, (image(),), dynamic_shapes=FREE)
    x = image(3, 10, 14)
    torch.testing.assert_close(again.module()(x), program(x))


@pytest.mark.parametrize("dynamo", [True, False])
def test_exported_again_it_is_the_same_function(dynamo: bool) -> None:
    program = OnnxProgram(exported("paper", dynamo))
    made = torch.onnx.export(
        program, (image(),), dynamo=True, verbose=False, dynamic_shapes=FREE, input_names=["x"]
    )
    assert made is not None
    again = OnnxProgram(made.model_proto)
    assert again.input_names == ("x",)
    x = image(3, 10, 14)
    torch.testing.assert_close(again(x), net("paper")(x).detach(), rtol=1e-5, atol=1e-5)


def test_children_lie_at_their_module_paths_and_fold() -> None:
    program = OnnxProgram(exported("bn", False))
    # The old exporter folds stem and bn by itself in evaluation mode; put one back by hand below.
    names = {n for n, m in program.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))}
    assert {"stem", "layer1.0"} <= names
    unfused = OnnxProgram(_conv_and_norm())
    assert isinstance(unfused.get_submodule("features.0"), nn.Conv2d)
    assert isinstance(unfused.get_submodule("features.1"), nn.BatchNorm2d)
    x = torch.randn(2, 3, 6, 5)
    before = unfused(x)
    assert fold_batch_norms(unfused, (x,)) == (("features.0", "features.1"),)
    assert isinstance(unfused.get_submodule("features.1"), nn.Identity)
    # The program reads the norm's module by its path, so what is put there is what runs.
    torch.testing.assert_close(unfused(x), before, rtol=1e-5, atol=1e-5)


def _conv_and_norm(part: bool = False) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    norm = {f"n{i}": np.abs(rng.standard_normal(4)).astype(np.float32) + 0.5 for i in range(4)}
    conv = helper.make_node("Conv", ["x", "w"], ["a"], name="/features/features.0/Conv", pads=[0, 1, 1, 0])
    if part:
        conv = helper.make_node("Call", ["x"], ["a"], name="c", domain="scconv_deploy", path="features.0")
    bn = helper.make_node(
        "BatchNormalization",
        ["a", "n0", "n1", "n2", "n3"],
        ["y"],
        name="/features/features.1/BatchNormalization",
    )
    made = model([conv, bn], {"x": ("float32", ["b", 3, "h", "w"])}, ["y"], {"w": weight, **norm})
    made.opset_import.append(helper.make_opsetid("scconv_deploy", 1))
    return made


def test_parts_run_call_nodes_at_their_path() -> None:
    whole = OnnxProgram(_conv_and_norm())
    part = nn.Sequential(nn.ZeroPad2d((1, 0, 0, 1)), nn.Conv2d(3, 4, 3, bias=False))
    part[1].weight = whole.get_submodule("features.0").weight
    program = OnnxProgram(_conv_and_norm(part=True), parts={"features.0": part})
    assert program.get_submodule("features.0") is part
    assert isinstance(program.get_submodule("features.1"), nn.BatchNorm2d)
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(program(x), whole(x))
    with pytest.raises(InputError, match=r"Call of 'features\.0', which is not among the parts"):
        OnnxProgram(_conv_and_norm(part=True))


def test_a_shared_weight_stays_one_parameter() -> None:
    weight = np.ones((2, 2, 1, 1), np.float32)
    nodes = [helper.make_node("Conv", [a, "w"], [b], name=f"{b}/Conv") for a, b in (("x", "p"), ("p", "q"))]
    nodes.append(helper.make_node("ReduceSum", ["w"], ["s"], keepdims=0))
    nodes.append(helper.make_node("Add", ["q", "v"], ["y"]))
    proto = model(nodes, {"x": ("float32", [1, 2, 3, 3])}, ["y", "s"], {"w": weight, "v": weight[0]})
    program = OnnxProgram(proto)
    assert program.get_submodule("p").weight is program.get_submodule("q").weight
    shared = program.get_submodule("p").weight
    assert isinstance(shared, nn.Parameter)
    with torch.no_grad():
        shared.mul_(2)
    made, total = program(torch.ones(1, 2, 3, 3))
    assert float(made[0, 0, 0, 0]) == 17  # 2 channels times 2, twice, plus one
    assert float(total) == 4  # computed once, at construction


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
def test_cast_module_runs_in_its_type(dtype: torch.dtype) -> None:
    program = copy.deepcopy(OnnxProgram(exported("F1", False))).to(dtype)
    assert program.float_type is dtype
    made = program(image().to(dtype))
    assert made.dtype is dtype
    wanted = net("F1")(image()).detach()
    tolerance = {torch.float16: 5e-3, torch.bfloat16: 4e-2, torch.float64: 1e-5}[dtype]
    torch.testing.assert_close(made.float(), wanted, rtol=0, atol=tolerance)


def test_a_copy_is_independent_and_meta_works() -> None:
    program = OnnxProgram(exported("F3", True))
    twin = copy.deepcopy(program)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    torch.testing.assert_close(program(image()), net("F3")(image()).detach(), rtol=1e-5, atol=1e-5)
    assert float(twin(image()).abs().max()) == 0 or bool(twin(image()).isnan().any())
    assert program.float_type is None
    shape = copy.deepcopy(program).to("meta")(image().to("meta"))
    assert (shape.device.type, shape.shape) == ("meta", (2, 5))


def test_cast_nodes_of_an_uncast_graph_keep_their_types() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["h", "c"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    proto = model(nodes, {"x": ("float32", [3])}, ["y"], {"c": np.array([0.1], np.float16)})
    x = torch.tensor([1.0, 2049.0, 1e-4])
    program = OnnxProgram(proto)
    inner = program.evaluate({"x": x}, ["s", "y"])
    assert inner["s"].dtype is torch.float16
    assert inner["y"].dtype is torch.float32
    assert float(inner["y"][1]) == 2048  # 2049 is not a half
    wide = OnnxProgram(proto, lift=torch.float64)
    assert float(wide(x)[1]) == pytest.approx(2049.1, abs=1e-4)
    assert float(copy.deepcopy(program).double()(x.double())[1]) == pytest.approx(2049.1, abs=1e-4)


def test_evaluate_reads_and_forces_inner_values() -> None:
    proto = exported("F3", True)
    program = OnnxProgram(proto)
    mask = next(n.output[0] for n in proto.graph.node if n.op_type == "Greater")
    given = {program.input_names[0]: image()}
    out = program.output_names[0]
    made = program.evaluate(given, [mask, out])
    torch.testing.assert_close(made[out], program(image()))
    assert made[mask].dtype is torch.bool
    same = program.evaluate(given, [out], forced={mask: made[mask]})
    torch.testing.assert_close(same[out], made[out])
    other = program.evaluate(given, [out, mask], forced={mask: ~made[mask]})
    assert float((other[out] - made[out]).abs().max()) > 1e-4
    assert torch.equal(other[mask], ~made[mask])
    torch.testing.assert_close(program(image()), made[out])  # nothing stays forced
    with pytest.raises(InputError, match="has no value 'nowhere'"):
        program.evaluate(given, ["nowhere"])
    with pytest.raises(InputError, match="are missing"):
        program.evaluate({}, [out])


def test_steps_run_alone() -> None:
    program = OnnxProgram(exported("F1", False))
    values = program.evaluate(
        {program.input_names[0]: image()}, [n for s in program.steps for n in (*s.inputs, *s.outputs)]
    )
    for step in program.steps:
        made = step(*[values[n] for n in step.inputs])
        for name, ours in zip(step.outputs, made, strict=True):
            torch.testing.assert_close(ours, values[name], rtol=0, atol=0)


def test_model_functions_are_inlined() -> None:
    body = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    proto = model([helper.make_node("Twice", ["x"], ["y"], domain="local")], {"x": ("float32", [2])}, ["y"])
    proto.functions.append(body)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    assert OnnxProgram(proto)(torch.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]


def test_errors_are_sentences() -> None:
    program = OnnxProgram(exported("F3", True))
    with pytest.raises(InputError, match="takes 1 inputs"):
        program()
    with pytest.raises(InputError, match=r"operator Conv of the ONNX graph \(node '.*'\) failed in PyTorch"):
        program(torch.zeros(1, 7, 8, 8))
    loop = model([helper.make_node("If", ["x"], ["y"], name="choice")], {"x": ("bool", [])}, ["y"])
    with pytest.raises(InputError, match=r"If \(node 'choice'\)"):
        OnnxProgram(loop)


def test_constants_are_computed_once() -> None:
    """What depends on initializers only is no step any more."""
    nodes = [
        helper.make_node("Add", ["c", "c"], ["d"]),
        helper.make_node("Mul", ["d", "c"], ["e"]),
        helper.make_node("Mul", ["x", "e"], ["y"]),
    ]
    proto = model(nodes, {"x": ("float32", [2])}, ["y"], {"c": np.array([3.0, 4.0], np.float32)})
    program = OnnxProgram(proto)
    assert [s.op_type for s in program.steps] == ["Mul"]
    assert program(torch.ones(2)).tolist() == [18.0, 32.0]
    assert numpy_helper.to_array(proto.graph.initializer[0]).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("dtype", HALVES)
def test_half_convolutions_are_not_slow(dtype: torch.dtype) -> None:
    """Within five times of float32 on the same graph: a kernel without vectors would take fifty."""
    program = OnnxProgram(exported("F3", True))
    half = copy.deepcopy(program).to(dtype)
    x = image(1, 128, 128)
    assert _seconds(half, x.to(dtype)) < 5 * _seconds(program, x) + 0.05


def _seconds(program: OnnxProgram, x: torch.Tensor) -> float:
    found = []
    for _ in range(4):
        start = time.perf_counter()
        program(x)
        found.append(time.perf_counter() - start)
    return min(found)
