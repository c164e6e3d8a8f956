"""The stage: who can quantise, what it wants, what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest

from exporters.onnx_model import OnnxExporter
from exporters.tensorrt_engine import TensorRTRTXExporter
from scconv_deploy.config import CalibMethod, ExportConfig, Precision
from scconv_deploy.contracts import Exporter, QuantForm, Silence
from scconv_deploy.errors import CapabilityError, InputError
from scconv_deploy.graph.quantised import read_parts
from scconv_deploy.stages import quantize
from tests.parity.nets import ready
from tests.quantise.graphs import CONFIG, FORMS, INTEGER, images, quantised, residual, scconv, store, stored

INT8 = ExportConfig("onnx", precision=Precision.INT8)


def test_each_target_says_how_it_wants_codes() -> None:
    form = quantize.form_of(OnnxExporter(), INT8)
    assert form is not None
    assert form.outputs
    assert quantize.graph_type(form, INT8) is Precision.FP32
    engine = replace(INT8, target="trt-rtx", precision=Precision.FP8)
    form = quantize.form_of(TensorRTRTXExporter(), engine)
    assert form is not None
    assert quantize.graph_type(form, engine) is Precision.FP16
    assert quantize.graph_type(form, replace(engine, rest=Precision.FP32)) is Precision.FP32
    assert quantize.form_of(OnnxExporter(), ExportConfig("onnx")) is None
    assert quantize.graph_type(None, ExportConfig("onnx")) is Precision.FP32


@pytest.mark.parametrize(
    ("exporter", "config", "sentence"),
    [
        (
            OnnxExporter(),
            replace(INT8, precision=Precision.FP8),
            "no fp8; it quantises to int8; fp8 is for TensorRT",
        ),
        (
            OnnxExporter(),
            replace(INT8, rest=Precision.FP16),
            "--rest fp16 is not available .* its rest is fp32",
        ),
        (SimpleNamespace(), replace(INT8, target="x"), "--target x has no int8; use fp32, fp16 or bf16"),
    ],
)
def test_what_a_target_lacks_is_said_with_what_it_has(
    exporter: object, config: ExportConfig, sentence: str
) -> None:
    with pytest.raises(CapabilityError, match=sentence):
        quantize.form_of(cast(Exporter, exporter), config)


def test_without_samples_it_says_how_to_make_them() -> None:
    with pytest.raises(InputError, match=r"--calib samples\.npz.*numpy\.savez"):
        quantize.must_have_samples(INT8)
    quantize.must_have_samples(ExportConfig("onnx"))
    quantize.must_have_samples(replace(INT8, calib=Path("x.npz")))


def test_the_rest_type_is_only_for_quantised_precisions() -> None:
    with pytest.raises(InputError, match="leave it out"):
        ExportConfig("onnx", rest=Precision.FP16)
    with pytest.raises(InputError, match="--rest is fp32 or fp16"):
        ExportConfig("onnx", precision=Precision.INT8, rest=Precision.BF16)
    with pytest.raises(InputError, match="fp8 needs opset 19"):
        ExportConfig("trt", precision=Precision.FP8, opset=18)


def test_the_graph_keeps_what_it_was_and_where_its_ranges_are_from() -> None:
    graph = scconv("integer")
    assert graph.unquantised is ready(Precision.FP32).graph
    made = graph.calibration
    assert made is not None
    assert (made.method, made.samples, made.rest) == ("minmax", 8, "fp32")
    assert set(made.ranges) == {v.source for v in read_parts(graph.model).values.values()}
    assert quantize.in_words(graph).startswith("18 products, ") or "products" in quantize.in_words(graph)
    assert quantize.in_words(residual()) == "nothing"


def test_percentile_ranges_are_narrower() -> None:
    given = images(512)
    wide, narrow = (
        quantize.run(residual(), given, INTEGER, replace(CONFIG, calib_method=m), Silence()).calibration
        for m in (CalibMethod.MINMAX, CalibMethod.PERCENTILE)
    )
    assert wide is not None
    assert narrow is not None
    assert narrow.ranges["image"][1] < wide.ranges["image"][1]


def test_few_samples_and_dead_activations_are_said() -> None:
    graph = residual()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    store(model, "w1", np.zeros_like(stored(model, "w1")))
    store(model, "b1", np.full(8, -1.0, dtype=np.float32))
    found = quantised(replace(graph, model=model), INTEGER, count=1)
    notes = "; ".join(found.notes)
    assert "ranges come from 1 sample only" in notes
    assert "are zero on all calibration samples (first: ar)" in notes


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_around_the_codes(form: str) -> None:
    graph = ready(Precision.FP16).graph
    made = quantize.run(graph, images(4), replace(FORMS[form], outputs=False), CONFIG, Silence())
    assert made.calibration is not None
    assert made.calibration.rest == "fp16"
    scales = {t.data_type for t in made.model.graph.initializer if t.name.endswith("_scale")}
    assert scales == {onnx.TensorProto.FLOAT16} | (scales & {onnx.TensorProto.FLOAT})


def test_a_weight_that_is_not_finite_is_named() -> None:
    graph = residual()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    store(model, "b1", np.full(8, np.nan, dtype=np.float32))
    with pytest.raises(InputError, match="'b1' holds NaN"):
        quantised(replace(graph, model=model), INTEGER)


def test_a_model_without_products_has_nothing_to_quantise() -> None:
    graph = residual()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[3:]
    del model.graph.node[0]
    with pytest.raises(InputError, match="nothing to compute in int8"):
        quantised(replace(graph, model=model), QuantForm("uint8", True, (Precision.FP32,)))
