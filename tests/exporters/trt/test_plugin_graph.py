"""The plugin graph is the same function: run by ONNX Runtime on the functions it carries."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from exporters.trt.plugin_graph import plugin_function, plugin_graph
from scconv_deploy.errors import BuildError
from scconv_deploy.kernels.names import operators
from scconv_deploy.scconv.fused_ops import attach_functions

C, SIDE = 8, 5
GENERATOR = np.random.default_rng(0)


def block(
    sru: str = "SRU_soft", fuse: str = "CRUFuse_joint_affine", whole: bool = True, relu: bool = True
) -> onnx.ModelProto:
    """SRU, Concat and a convolution, Split, fuse, Relu."""
    make = helper.make_node
    settings = {"groups": 4, "epsilon": 1e-5, "logit": 0.1}
    nodes = [make(sru, ["x", "scale", "shift"], ["a", "b"], domain="scconv", name="m.sru/SRU", **settings)]
    nodes += [make("Concat", ["a", "b"], ["ab"], axis=1), make("Conv", ["ab", "w"], ["y"])]
    nodes += [make("Split", ["y"], ["y1", "y2"], axis=1, num_outputs=2)]
    constants = ["scale", "shift"] if "affine" in fuse else []
    nodes += [make(fuse, ["y1", "y2", *constants], ["f"], domain="scconv", name="m.cru/CRUFuse")]
    nodes += [make("Relu", ["f"], ["z"])] if relu else [make("Identity", ["f"], ["z"])]
    outputs = ["z"] if whole else ["z", "y1", "a", "f"]
    weights = {
        "scale": GENERATOR.normal(size=C),
        "shift": GENERATOR.normal(size=C),
        "w": GENERATOR.normal(size=(2 * C, C, 1, 1)),
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "block",
        [value("x", 1, [2, C, SIDE, SIDE])],
        [value(o, 1, None) for o in outputs],
        [numpy_helper.from_array(a.astype(np.float32), k) for k, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    attach_functions(model)
    return model


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    x = np.random.default_rng(1).normal(size=(2, C, SIDE, SIDE)).astype(np.float32)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    found: list[np.ndarray] = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    return found


def kinds(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def test_halves_and_pieces_become_whole_and_the_relu_goes_in() -> None:
    model = block()
    before = model.SerializeToString()
    made = plugin_graph(model)
    assert kinds(made) == ["SRUWhole_soft", "Conv", "CRUPoolWhole", "CRUMixWhole_joint_affine_relu"]
    np.testing.assert_allclose(run(made)[0], run(model)[0], rtol=1e-6, atol=1e-6)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("fuse", ["CRUFuse_joint", "CRUFuse_pair", "CRUFuse_pair_affine"])
@pytest.mark.parametrize("relu", [True, False])
def test_every_fuse_is_the_same_function(fuse: str, relu: bool) -> None:
    model = block(fuse=fuse, relu=relu)
    np.testing.assert_allclose(run(plugin_graph(model))[0], run(model)[0], rtol=1e-6, atol=1e-6)


def test_values_that_others_read_stay() -> None:
    model = block(whole=False)
    made = plugin_graph(model)
    assert kinds(made) == ["SRU_soft", "Concat", "Conv", "Split", "CRUPool", "CRUMix_joint_affine", "Relu"]
    for one, other in zip(run(made), run(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_the_parser_is_told_to_prefer_the_plugin() -> None:
    for node in plugin_graph(block()).graph.node:
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.domain:
            assert (given["plugin_namespace"], given["plugin_version"]) == (b"scconv", b"1")


def test_pieces_in_the_other_order_are_not_taken_as_one() -> None:
    """The broken twin: [y2; y1] read as [y1; y2] would swap the two weights."""
    model = block()
    fuse = next(n for n in model.graph.node if n.op_type.startswith("CRUFuse"))
    fuse.input[0], fuse.input[1] = fuse.input[1], fuse.input[0]
    made = plugin_graph(model)
    assert "CRUPool" in kinds(made)
    np.testing.assert_allclose(run(made)[0], run(model)[0], rtol=1e-6, atol=1e-6)


def test_a_doubled_mean_would_be_seen() -> None:
    model = block()
    broken = plugin_graph(model)
    mix = next(f for f in broken.functions if f.name.startswith("CRUMix"))
    divide = next(n for n in mix.node if n.op_type == "Div")
    divide.op_type = "Mul"
    assert np.abs(run(broken)[0] - run(model)[0]).max() > 1e-3


def test_a_function_of_the_users_with_our_name_is_refused() -> None:
    model = block()
    other = model.functions.add()
    other.CopyFrom(plugin_function("CRUPoolWhole", 20))
    other.domain = "theirs"
    with pytest.raises(BuildError, match="theirs::CRUPoolWhole"):
        plugin_graph(model)


def test_every_operator_has_a_function() -> None:
    for name in operators():
        assert plugin_function(name, 20).name == name
