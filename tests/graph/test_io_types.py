"""Casts at the border: names stay, types change, values pass; subgraphs that read an input are followed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from scconv_deploy.config import Precision
from scconv_deploy.graph.io_types import set_io_types
from scconv_deploy.runtime.onnx import OnnxRunner

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def value(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["n", 2])


def graph(kind: int = HALF) -> onnx.ModelProto:
    """y = x + x, z = x if flag else y, and the integers pass through."""

    def branch(name: str, source: str) -> onnx.GraphProto:
        node = helper.make_node("Identity", [source], [f"{name}_out"])
        return helper.make_graph([node], name, [], [value(f"{name}_out", kind)])

    nodes = [
        helper.make_node("Add", ["x", "x"], ["y"], name="block/Add_0"),
        helper.make_node(
            "If", ["flag"], ["z"], name="If_1", then_branch=branch("yes", "x"), else_branch=branch("no", "y")
        ),
        helper.make_node("Identity", ["label"], ["label_out"], name="Identity_2"),
    ]
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    made = helper.make_graph(
        nodes,
        "g",
        [value("x", kind), flag, value("label", TensorProto.INT64)],
        [value("y", kind), value("z", kind), value("label_out", TensorProto.INT64)],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return model


def types(model: onnx.ModelProto) -> dict[str, int]:
    return {v.name: v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]}


def test_names_stay_and_only_floating_types_change() -> None:
    before = types(graph())
    model = graph()
    set_io_types(model, Precision.FP32)
    after = types(checked(model))
    assert list(after) == list(before)
    assert {n for n in after if after[n] != before[n]} == {"x", "y", "z"}
    assert {after[n] for n in ("x", "y", "z")} == {FLOAT}
    assert sum(n.op_type == "Cast" for n in model.graph.node) == 3
    assert model.graph.node[1].name == "block/Add_0"


@pytest.mark.parametrize("outside", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("inside", [HALF, FLOAT])
def test_values_pass(inside: int, outside: Precision) -> None:
    model = graph(inside)
    set_io_types(model, outside)
    dtype = np.float32 if outside is Precision.FP32 else np.float16
    x = np.array([[1.5, -2.25]], dtype)
    label = np.array([[3, 4]], np.int64)
    with OnnxRunner(checked(model).SerializeToString(), threads=1) as runner:
        for flag, want in ((True, x), (False, 2 * x)):
            got = runner.run({"x": x, "flag": np.array(flag), "label": label})
            assert {k: v.dtype for k, v in got.items()} == {"y": dtype, "z": dtype, "label_out": np.int64}
            np.testing.assert_array_equal(got["y"], 2 * x)
            np.testing.assert_array_equal(got["z"], want)
            np.testing.assert_array_equal(got["label_out"], label)


def test_the_same_type_changes_nothing() -> None:
    model = graph()
    set_io_types(model, Precision.FP16)
    assert model == graph()


def test_an_inner_name_that_is_taken_is_not_used_again() -> None:
    model = graph()
    for node in model.graph.node:
        node.input[:] = ["x_inside" if n == "y" else n for n in node.input]
    model.graph.node.insert(1, helper.make_node("Identity", ["y"], ["x_inside"], name="I"))
    model.graph.node[2].attribute[0].g.node[0].input[0] = "x_inside"
    set_io_types(model, Precision.FP32)
    checked(model)


def test_a_cast_forgotten_is_not_valid() -> None:
    model = graph()
    set_io_types(model, Precision.FP32)
    del model.graph.node[0]
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        checked(model)
