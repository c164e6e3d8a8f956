"""What goes into a fuse on the way to OpenVINO, and what does not (the operators: tests/kernels)."""

from __future__ import annotations

import onnx

from exporters import openvino_fused

TEXT = """
<ir_version: 10, opset_import: ["": 18, "scconv": 1]>
g (float[1,4,6,6] x, float[4,4,1,1] w) => (float[1,4,6,6] z{extra})
{{
  a = Conv(x, w)
  b = Conv(x, w)
  y1 = Add(a, b)
  y2 = Conv(x, w)
  y = scconv.CRUFuse_joint(y1, y2)
  z = Relu(y)
  {more}
}}
"""


def graph(more: str = "", extra: str = "") -> onnx.GraphProto:
    made = onnx.parser.parse_model(TEXT.format(more=more, extra=extra)).graph
    for index, node in enumerate(made.node):
        node.name = f"{node.op_type}_{index}"
    return made


def fuse_of(given: onnx.GraphProto) -> onnx.NodeProto:
    openvino_fused._take_relus(given)
    openvino_fused._take_sums(given)
    (found,) = [n for n in given.node if n.domain == "scconv"]
    return found


def test_the_relu_and_the_sum_go_into_the_fuse() -> None:
    given = graph()
    node = fuse_of(given)
    assert node.op_type == "CRUFuse_joint_relu_parts"
    assert (list(node.input), list(node.output)) == (["a", "y2", "b"], ["z"])
    assert {"Relu", "Add"}.isdisjoint(n.op_type for n in given.node)


def test_a_result_that_others_read_keeps_its_relu() -> None:
    assert fuse_of(graph("t = Neg(y)", ", float[1,4,6,6] t")).op_type == "CRUFuse_joint_parts"
    assert fuse_of(graph("", ", float[1,4,6,6] y")).op_type == "CRUFuse_joint_parts"


def test_a_sum_that_others_read_stays() -> None:
    given = graph("t = Neg(y1)", ", float[1,4,6,6] t")
    assert fuse_of(given).op_type == "CRUFuse_joint_relu"
    assert "Add" in {n.op_type for n in given.node}
