"""The layer log, as TensorRT-RTX 1.7.1 writes it and as it must not be misread."""

import pytest

from exporters.trt.build import build_plan
from exporters.trt.layers import KernelTensor, read_kernels
from exporters.trt.settings import BuildRequest
from tests.exporters.trt.models import DYNAMIC, SILENCE, conv_relu, rtx_platform

NHWC = "StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format"
LOG = f"""Layers:
Name: __mye1_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: c[0], {{x}}/Conv_1_myl0_1, LayerType: correlation, Inputs: [ {{ Name: x, Dimensions: [-1,3,8,8], Strides: [192,64,8,1], StrideOrder: [3,2,1,0], Datatype: Float, Format: (Linear) Row major linear format }}, {{ Name: m, Dimensions: [], Strides: [], {NHWC} }}], Constants: [ {{ Name: k, Dimensions: [8,3,1,1], Strides: [3,1,3,3], {NHWC} }}], Outputs: [ {{ Name: y, Dimensions: [-1,8,8,8], Strides: [512,1,64,8], {NHWC} }}], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: c[0], {{x}}/Conv_1][ONNX Layer: r]

I/O Tensors:
 Name: x, IOMode: Input
"""  # noqa: E501, W291 - the log's own lines


def test_every_field_of_the_log_is_read() -> None:
    shape, conv = read_kernels(LOG)
    assert (shape.kind, shape.inputs, shape.constants, shape.outputs, shape.onnx_nodes) == (
        "shape_call",
        (),
        (),
        (),
        (),
    )
    assert conv.name == "c[0], {x}/Conv_1_myl0_1"
    assert conv.kind == "correlation"
    assert conv.inputs == (
        KernelTensor("x", (-1, 3, 8, 8), "Float", (3, 2, 1, 0)),
        KernelTensor("m", (), "Half", (3, 0, 2, 1)),
    )
    assert conv.constants == (KernelTensor("k", (8, 3, 1, 1), "Half", (3, 0, 2, 1)),)
    assert conv.outputs == (KernelTensor("y", (-1, 8, 8, 8), "Half", (3, 0, 2, 1)),)
    assert conv.onnx_nodes == ("c[0], {x}/Conv_1", "r")


def test_a_line_without_constants_or_strides_is_read_too() -> None:
    """The enterprise builder writes other fields between and after the lists."""
    line = (
        "Name: a, LayerType: CaskConvolution, Inputs: [ { Name: x, Location: Device, Dimensions: [1,2], "
        "Datatype: Half }], Outputs: [ { Name: y, Dimensions: [1,2], Datatype: Half }], ParameterType: Conv, "
        'Weights: {"Type": "Half"}, TacticName: t, StreamId: 0, Metadata: [ONNX Layer: n]\x1e[ONNX Layer: m]'
    )
    (kernel,) = read_kernels(f"Layers:\n{line}")
    assert kernel.constants == ()
    assert kernel.outputs == (KernelTensor("y", (1, 2), "Half", ()),)
    assert kernel.onnx_nodes == ("n", "m")


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("", "does not begin with"),
        ("Engine Layers:\nName: a", "does not begin with"),
        ("Layers:\nName: a, Kind: b", "LayerType"),
        ("Layers:\nName: a, LayerType: k, Inputs: [ { Name: x, Dimensions: [1]", "'Inputs' is not closed"),
        (
            "Layers:\nName: a, LayerType: k, Inputs: [ { Name: x, Shape: [1] }], Outputs: []",
            "without Dimensions",
        ),
    ],
)
def test_a_changed_format_is_an_error_and_never_a_wrong_count(message: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_kernels(message)


def test_the_log_of_a_real_build_is_read_whole() -> None:
    data = conv_relu("N").SerializeToString()
    plan = build_plan(rtx_platform(), data, BuildRequest(DYNAMIC, ("sm_89",)), SILENCE)
    assert plan.layers is not None
    kernels = read_kernels(plan.layers)
    assert len(kernels) == plan.layers.count("LayerType: ")
    nodes = {name for kernel in kernels for name in kernel.onnx_nodes}
    assert nodes == {
        "layer1.0.conv2/Conv_0",
        "layer1.0.conv2/Relu_1",
        "head.pool/GlobalAveragePool_2",
        "head/Sigmoid_3",
    }
    assert {t.name for k in kernels for t in k.inputs} >= {"x"}
    assert {t.name for k in kernels for t in k.outputs} >= {"z"}
