"""The quantised graph: valid, near the float one, and computed on codes by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from scconv_deploy.graph.precision import model_precision
from scconv_deploy.runtime.onnx import OnnxRunner
from tests.quantise.graphs import FORMS, INTEGER, images, quantised, residual


@pytest.mark.parametrize("form", FORMS)
def test_the_result_is_near_and_weights_are_stored_as_codes(form: str) -> None:
    plain = residual()
    graph = quantised(plain, FORMS[form])
    onnx.checker.check_model(graph.model, full_check=True)
    runner = OnnxRunner(graph.model.SerializeToString(), optimise=form != "float8")
    want = OnnxRunner(plain.model.SerializeToString()).run(images())["output"]
    got = runner.run(images())["output"]
    assert np.abs(got - want).mean() < (0.06 if form == "float8" else 0.02) * np.abs(want).max()
    names = {t.name for t in graph.model.graph.initializer}
    assert {"w1_quantised", "w2_quantised", "w3_quantised"} <= names
    assert not {"w1", "w2", "w3"} & names
    assert model_precision(graph.model) == ("fp8" if form == "float8" else "int8")


def test_onnx_runtime_computes_every_product_and_sum_on_codes(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = quantised(residual(), INTEGER).model.SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2
    assert kinds.count("QLinearAdd") == 1
    assert kinds.count("QGemm") == 1
    assert not {"Conv", "FusedConv", "Gemm", "Relu"} & set(kinds)


def test_a_weight_that_two_convolutions_share_is_stored_once_where_scales_agree() -> None:
    plain = residual()
    plain.model.graph.node[3].input[1] = "w2"
    extra = onnx.helper.make_node("Conv", ["sumr", "w2"], ["again"], name="part8/Conv_8", pads=[1, 1, 1, 1])
    plain.model.graph.node.insert(6, extra)
    plain.model.graph.node[7].input[0] = "again"
    graph = quantised(plain, FORMS["symmetric"])
    assert [t.name for t in graph.model.graph.initializer if t.name.startswith("w2")] == [
        "w2_quantised",
        "w2_scale",
        "w2_zero_point",
    ]
