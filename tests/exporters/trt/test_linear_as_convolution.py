"""A matrix product and the 1x1 convolution that stands for it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters.trt.linear_as_convolution import linear_as_convolution
from scconv_deploy.errors import BuildError
from scconv_deploy.runtime.onnx import OnnxRunner

X = np.random.default_rng(0).standard_normal((7, 6)).astype(np.float32)


def _model(node: str, **constants: tuple[int, ...]) -> onnx.ModelProto:
    text = f"""
    <ir_version: 8, opset_import: ["" : 18]>
    net (float[n, 6] x) => (float[n, m] y) {{
      r = Relu (x)
      y = {node}
    }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(1)
    for name, shape in constants.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for index, made in enumerate(model.graph.node):
        made.name = f"head/{made.op_type}_{index}"
    return model


def _run(model: onnx.ModelProto) -> np.ndarray:
    return OnnxRunner(model.SerializeToString()).run({"x": X})["y"]


FORMS = {
    "Gemm, transposed": _model("Gemm <transB = 1> (r, w, b)", w=(5, 6), b=(5,)),
    "Gemm": _model("Gemm (r, w, b)", w=(6, 5), b=(5,)),
    "Gemm without bias": _model("Gemm <transB = 1> (r, w)", w=(5, 6)),
    "MatMul": _model("MatMul (r, w)", w=(6, 5)),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_same_function(form: str) -> None:
    made = linear_as_convolution(FORMS[form])
    onnx.checker.check_model(made, full_check=True)
    assert [n.op_type for n in made.graph.node] == ["Relu", "Unsqueeze", "Conv", "Squeeze"]
    assert all(n.name.startswith("head/") for n in made.graph.node)
    np.testing.assert_allclose(_run(made), _run(FORMS[form]), rtol=1e-5, atol=1e-6)
    assert [n.op_type for n in FORMS[form].graph.node][1] in ("Gemm", "MatMul")  # the argument stays


def test_the_comparison_would_see_a_weight_that_is_not_transposed() -> None:
    square = _model("Gemm (r, w, b)", w=(6, 6), b=(6,))
    made = linear_as_convolution(square)
    weight = next(t for t in made.graph.initializer if t.name.startswith("w"))
    wrong = numpy_helper.to_array(weight).transpose(1, 0, 2, 3)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(wrong), weight.name))
    assert np.abs(_run(made) - _run(square)).max() > 0.1


def test_a_graph_without_products_is_itself() -> None:
    model = _model("Relu (r)")
    assert linear_as_convolution(model) is model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (_model("Gemm <alpha = 2.0> (r, w)", w=(6, 5)), "scales"),
        (_model("Gemm <transB = 1> (r, r)"), "computed"),
        (_model("Gemm (r, w, b)", w=(6, 5), b=(1, 5)), "bias"),
        (_model("MatMul (r, w)", w=(2, 6, 5)), "two axes"),
    ],
)
def test_what_has_no_such_form_is_refused_by_node(model: onnx.ModelProto, why: str) -> None:
    with pytest.raises(BuildError, match=rf"head/(Gemm|MatMul)_1.*{why}"):
        linear_as_convolution(model)
