"""Blocks that stay the nodes they are, each with its sentence, and graphs that are then left untouched."""

from __future__ import annotations

import onnx
import pytest
from onnx import ModelProto as Model

from scconv_deploy.scconv.spec import Norm
from tests.runtime.block_models import Case, model_of
from tests.runtime.test_block_fusion import Edit, fused


def _shown(name: str) -> Edit:
    def edit(model: Model) -> None:
        node = next(n for n in model.graph.node if name in n.name)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))

    return edit


def _also_read(model: Model) -> None:
    node = next(n for n in model.graph.node if "y2" in n.name)
    model.graph.node.append(onnx.helper.make_node("Relu", [node.output[0]], ["other"]))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("other"))


def _halves_exchanged(model: Model) -> None:
    node = next(n for n in model.graph.node if n.op_type.startswith("SRU"))
    node.output[0], node.output[1] = node.output[1], node.output[0]


def _external(model: Model) -> None:
    tensor = next(t for t in model.graph.initializer if "squeeze_low" in t.name)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    tensor.ClearField("raw_data")


def _replaceable(model: Model) -> None:
    tensor = next(t for t in model.graph.initializer if "gwc" in t.name)
    model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, tensor.dims))


def _auto_pad(model: Model) -> None:
    node = next(n for n in model.graph.node if "gwc" in n.name)
    kept = [a for a in node.attribute if a.name != "pads"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("auto_pad", "SAME_LOWER")])


def _quantised(model: Model) -> None:
    node = next(n for n in model.graph.node if "y2" in n.name)
    model.graph.node.append(onnx.helper.make_node("Identity", [node.input[0]], ["other"]))
    node.input[0] = "other"


def _constant_y2(model: Model) -> None:
    node = next(n for n in model.graph.node if n.op_type.startswith("CRUFuse"))
    node.input[1] = node.input[2]


def _nothing(model: Model) -> None:
    del model


@pytest.mark.parametrize(
    ("case", "edit", "said"),
    [
        (Case(), _shown("SRU"), "in its middle is an output of the model"),
        (Case(), _shown("gwc"), "in its middle is an output of the model"),
        (Case(dense=True), _shown("y1"), "in its middle is an output of the model"),
        (Case(up=16), _shown("Split"), "in its middle is an output of the model"),
        (Case(), _also_read, "in its middle is also read elsewhere"),
        (Case(), _halves_exchanged, "do not read an SRU's two halves in their order"),
        (Case(), _external, "the squeeze before Y2 is no constant of four axes in float32 in this file"),
        (Case(), _replaceable, "the weight of Y1 is no constant"),
        (Case(), _auto_pad, "Y1 does not keep height and width"),
        (Case(), _quantised, "the squeeze before Y2 is not a convolution"),
        (Case(), _constant_y2, "Y2 is not a convolution"),
        (Case(dilation=2), _nothing, "Y1 does not keep height and width"),
        (Case(kernel=1, dilation=2), _nothing, "Y1 has a stride or a dilation"),
        (Case(stride=2), _nothing, "the squeeze before Y2 has a stride or a dilation"),
        (Case(kernel=13), _nothing, "Y1 is 13x13; the kernel goes up to 11x11"),
        (Case(channels=48, up=24), _nothing, "24 channels do not fill blocks of 16"),
        (Case(up=24), _nothing, "24 channels do not fill blocks of 16"),
        (Case(norm=Norm.GROUP_STD, groups=3), _nothing, "3 groups of 64 channels"),
    ],
)
def test_refusals_leave_the_graph_as_it_is(case: Case, edit: Edit, said: str) -> None:
    model = model_of(case)
    edit(model)
    made, count, left = fused(model)
    assert count == 0
    (sentence,) = left
    assert said in sentence
    assert sorted(n.SerializeToString() for n in made.graph.node) == sorted(
        n.SerializeToString() for n in model.graph.node
    )
    assert list(made.graph.initializer) == list(model.graph.initializer)
