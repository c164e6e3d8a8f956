"""A graph falls into blocks and a rest that together are the whole; names decide what belongs where."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from scconv_deploy.graph.names import belongs_to, module_path, rename_nodes, strip_metadata
from scconv_deploy.graph.pieces import block_piece, rest_nodes, rest_piece

FLOAT = onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("name", "path", "inside"),
    [
        ("layer1/Add_0", "layer1", True),
        ("layer1.conv/Add_0", "layer1", True),
        ("layer10/Add_0", "layer1", False),
        ("layer1", "layer1", False),
        ("Add_0", "layer1", False),
        ("Add_0", "", True),
        ("layer1/Add_0", "", True),
        ("a/b.c/Add_0", "a/b", True),
    ],
)
def test_belongs_to(name: str, path: str, inside: bool) -> None:
    assert belongs_to(name, path) is inside


def test_nodes_are_named_by_their_scopes() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="node_relu")
    scopes = node.metadata_props.add()
    scopes.key, scopes.value = "pkg.torch.onnx.name_scopes", "['', 'layer1', 'layer1.0', 'relu']"
    other = onnx.helper.make_node("Relu", ["y"], ["z"], name="layer2.sru/Add_7")
    bare = onnx.helper.make_node("Relu", ["z"], ["w"], name="whatever")
    model = onnx.helper.make_model(onnx.helper.make_graph([node, other, bare], "g", [], []))
    assert module_path(model.graph.node[0]) == "layer1.0"
    rename_nodes(model)
    strip_metadata(model)
    assert [n.name for n in model.graph.node] == ["layer1.0/Relu_0", "layer2.sru/Relu_1", "Relu_2"]
    assert not model.graph.node[0].metadata_props


def chain() -> onnx.ModelProto:
    """``x -> +1 -> [a: *2, +1] -> *3 -> [b: *5] -> + first -> y``: the rest surrounds both blocks."""
    nodes = [
        ("Add", ["x", "one"], "p", "stem/Add_0"),
        ("Mul", ["p", "two"], "q", "a/Mul_1"),
        ("Add", ["q", "one"], "r", "a.inner/Add_2"),
        ("Mul", ["r", "three"], "s", "Mul_3"),
        ("Mul", ["s", "five"], "t", "b/Mul_4"),
        ("Add", ["t", "p"], "y", "Add_5"),
    ]
    numbers = {"one": 1, "two": 2, "three": 3, "five": 5}
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node(kind, given, [made], name=name) for kind, given, made, name in nodes],
            "g",
            [onnx.helper.make_tensor_value_info("x", FLOAT, ["n", 4])],
            [onnx.helper.make_tensor_value_info("y", FLOAT, ["n", 4])],
            [onnx.numpy_helper.from_array(np.float32(v), k) for k, v in numbers.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=9,
    )
    return onnx.shape_inference.infer_shapes(model)


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


X = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_a_block_is_cut_out_with_its_border() -> None:
    piece = block_piece(chain(), "a")
    assert piece is not None
    assert (piece.inputs, piece.outputs) == (("p",), ("r",))
    np.testing.assert_array_equal(run(piece.model, p=X)["r"], 2 * X + 1)


def test_blocks_and_rest_make_the_whole() -> None:
    model = chain()
    blocks = [block_piece(model, path) for path in ("a", "b")]
    cut = [b for b in blocks if b is not None]
    rest = rest_piece(model, cut)
    assert rest is not None
    assert set(rest.inputs) == {"x", "r", "t"}
    assert set(rest.outputs) == {"p", "s", "y"}
    p = X + 1
    r = run(cut[0].model, p=p)["r"]
    s = 3 * r
    t = run(cut[1].model, s=s)["t"]
    found = run(rest.model, x=X, r=r, t=t)
    np.testing.assert_array_equal(found["p"], p)
    np.testing.assert_array_equal(found["s"], s)
    np.testing.assert_array_equal(found["y"], run(model, x=X)["y"])
    counts = [len(piece.model.graph.node) for piece in (*cut, rest)]
    assert sum(counts) == len(model.graph.node)


def test_the_whole_model_as_one_block() -> None:
    model = chain()
    piece = block_piece(model, "")
    assert piece is not None
    assert (piece.inputs, piece.outputs) == (("x",), ("y",))
    assert rest_nodes(model, [piece]) == []
    assert rest_piece(model, [piece]) is None


def test_blocks_that_cannot_be_cut() -> None:
    model = chain()
    assert block_piece(model, "nowhere") is None
    model.graph.node[5].input[1] = "q"  # an inner value is read outside: two outputs
    assert block_piece(onnx.shape_inference.infer_shapes(model), "a") is None
    model = chain()
    model.graph.node[4].input[1] = "p"  # two inputs
    assert block_piece(onnx.shape_inference.infer_shapes(model), "b") is None


def test_values_read_by_subgraphs_count() -> None:
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", ["q", "q"], ["out"])],
        "body",
        [],
        [onnx.helper.make_tensor_value_info("out", FLOAT, None)],
    )
    model = chain()
    condition = onnx.numpy_helper.from_array(np.array(True), "yes")
    model.graph.initializer.append(condition)
    model.graph.node.append(
        onnx.helper.make_node("If", ["yes"], ["branch"], name="If_6", then_branch=body, else_branch=body)
    )
    assert block_piece(model, "a") is None  # q leaves the block through the If's bodies
