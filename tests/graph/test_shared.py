"""Blocks side by side get all their own nodes back; chains and graphs that share nothing stay as they are."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.pieces import block_piece
from scconv_deploy.graph.shared import unshared

X = np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)
NAMES = [
    "stem/A_0",
    "a.sru/N_1",
    "a.sru/N_2",
    "a.cru/M_3",
    "b.sru/G_4",
    "b.cru/M_5",
    "c.sru/G_6",
    "c/M_7",
    "S_8",
]


def branches() -> onnx.ModelProto:
    """All read ``p``; ``b`` and ``c`` share what ``a`` computes of it, and ``c`` also reads ``a``'s output."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 9, opset_import: ["" : 20]>
        g (float[n,4] x) => (float[n,4] y) <float[n,4] p> {
            p = Relu(x)
            q = Exp(p)
            r = Sqrt(q)
            out_a = Mul(r, q)
            s = Neg(r)
            out_b = Sub(s, p)
            t = Abs(q)
            out_c = Add(t, out_a)
            y = Sum(out_a, out_b, out_c)
        }
        """
    )
    for node, name in zip(model.graph.node, NAMES, strict=True):
        node.name = name
    return onnx.shape_inference.infer_shapes(model)


def result(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    made: np.ndarray = session.run(None, {"x": X})[0]
    return made


def test_a_block_beside_another_can_be_cut_out() -> None:
    model = branches()
    assert block_piece(model, "b") is None
    before = model.SerializeToString()
    separate = onnx.shape_inference.infer_shapes(unshared(model, ["a", "b"]))
    assert model.SerializeToString() == before
    onnx.checker.check_model(separate, full_check=True)
    np.testing.assert_array_equal(result(separate), result(model))
    piece = block_piece(separate, "b")
    assert piece is not None
    assert piece.inputs == ("p",)
    assert piece.outputs == ("out_b",)
    names = [n.name for n in separate.graph.node if belongs_to(n.name, "b")]
    assert names == ["b.sru/N_1", "b.sru/N_2", "b.sru/G_4", "b.cru/M_5"]
    assert len({n.name for n in separate.graph.node}) == len(separate.graph.node)


def test_another_blocks_output_is_read_and_not_copied() -> None:
    separate = unshared(branches(), ["a", "b", "c"])
    own = [n for n in separate.graph.node if belongs_to(n.name, "c")]
    assert [n.op_type for n in own] == ["Exp", "Abs", "Add"]
    assert own[-1].input[1] == "out_a"
    np.testing.assert_array_equal(result(separate), result(branches()))


def test_a_graph_that_shares_nothing_is_left_as_it_is() -> None:
    model = branches()
    assert unshared(model, ["a"]) is model
    assert unshared(model, [""]) is model
    assert unshared(model, ["stem", "a"]) is model
    assert unshared(model, []) is model
