"""Only valid graphs pass; names and free axes survive; a simplifier that fails is no reason to stop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxsim
import pytest

from scconv_deploy.artifacts import TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import BuildError
from scconv_deploy.stages import simplify

FLOAT = onnx.TensorProto.FLOAT


def graph() -> TracedGraph:
    """``y = relu(identity(x) + (1 + 1))``."""
    nodes = [
        onnx.helper.make_node("Add", ["one", "one"], ["two"], name="net/Add_0"),
        onnx.helper.make_node("Identity", ["x"], ["same"], name="net/Identity_1"),
        onnx.helper.make_node("Add", ["same", "two"], ["sum"], name="net.block/Add_2"),
        onnx.helper.make_node("Relu", ["sum"], ["y"], name="net.block/Relu_3"),
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "g",
            [onnx.helper.make_tensor_value_info("x", FLOAT, ["batch", 3])],
            [onnx.helper.make_tensor_value_info("y", FLOAT, ["batch", 3])],
            [onnx.numpy_helper.from_array(np.ones(3, np.float32), "one")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=9,
    )
    spec = TensorSpec("x", "float32", ("batch", 3), (1, 3), (1, 3), (8, 3))
    return TracedGraph(model, (spec,), (TensorSpec("y", "float32", ("batch", 3)),), 20)


CONFIG = ExportConfig(target="onnx")


def test_constants_are_folded_and_names_kept() -> None:
    found = simplify.run(graph(), CONFIG)
    assert [n.name for n in found.model.graph.node] == ["net.block/Add_2", "net.block/Relu_3"]
    assert found.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert found.model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_given_graph_is_not_changed() -> None:
    given = graph()
    before = given.model.SerializeToString()
    simplify.run(given, CONFIG)
    assert given.model.SerializeToString() == before


def test_no_simplify_keeps_every_node() -> None:
    found = simplify.run(graph(), ExportConfig(target="onnx", simplify=False))
    assert len(found.model.graph.node) == 4


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[3].op_type = "Rleu"


def missing_value(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[1] = "nowhere"


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "two"


def wrong_rank(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 7


def wrong_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64


@pytest.mark.parametrize("simplified", [True, False])
@pytest.mark.parametrize("fault", [unknown_operator, missing_value, made_twice, wrong_rank, wrong_type])
def test_invalid_graphs_are_refused(fault: Callable[[onnx.ModelProto], None], simplified: bool) -> None:
    given = graph()
    fault(given.model)
    with pytest.raises(BuildError, match="not valid ONNX"):
        simplify.run(given, ExportConfig(target="onnx", simplify=simplified))


def test_a_simplifier_that_fails_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: onnx.ModelProto) -> None:
        raise RuntimeError("no rule for this\nsecond line")

    monkeypatch.setattr(onnxsim, "simplify", fail)
    found = simplify.run(graph(), CONFIG)
    assert len(found.model.graph.node) == 4
    assert found.notes == (
        "onnxsim could not simplify this graph (no rule for this); it goes on unsimplified",
    )


def test_a_simplifier_that_renames_the_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.graph.input[0].name = "other"
        return changed, True

    monkeypatch.setattr(onnxsim, "simplify", rename)
    with pytest.raises(BuildError, match="--no-simplify"):
        simplify.run(graph(), CONFIG)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    simplify.run(graph(), CONFIG)
    assert capfd.readouterr().out == ""
