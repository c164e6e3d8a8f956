"""Real ahead-of-time builds of tiny graphs, and how their failures come back."""

from types import ModuleType, SimpleNamespace
from typing import cast

import onnx
import pytest
from onnx import helper

from exporters.trt import watch
from exporters.trt.build import build_plan
from exporters.trt.logger import recording
from exporters.trt.platform import Platform
from exporters.trt.settings import BuildRequest
from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.errors import BuildError, CapabilityError
from scconv_deploy.runtime.nvidia_driver import NoGpu
from scconv_deploy.tensorrt_options import MIB, Pool, TensorRTOptions
from tests.exporters.trt.models import (
    DYNAMIC,
    SILENCE,
    STATIC,
    conv,
    conv_chain,
    conv_relu,
    conv_weight,
    model,
    rtx_platform,
)
from tests.exporters.trt.test_watch import Recorder

ADA = ("sm_89",)


def test_the_same_input_gives_the_same_bytes_and_another_input_does_not() -> None:
    data = conv_relu().SerializeToString()
    request = BuildRequest(STATIC, ("sm_80", "sm_89"))
    first = build_plan(rtx_platform(), data, request, SILENCE)
    assert build_plan(rtx_platform(), data, request, SILENCE).data == first.data
    other = conv_relu()
    assert other.SerializeToString() != data
    assert build_plan(rtx_platform(), other.SerializeToString(), request, SILENCE).data != first.data


def test_a_plan_carries_its_layer_log_settings_and_profile() -> None:
    progress = Recorder()
    plan = build_plan(
        rtx_platform(), conv_relu("N").SerializeToString(), BuildRequest(DYNAMIC, ADA), progress
    )
    assert plan.layers is not None
    assert "layer1.0.conv2/Conv_0" in plan.layers
    assert plan.settings["compute_capabilities"] == ["SM89"]
    assert len(plan.profile) == 1
    assert progress.calls[0] == ("importing the graph", None)
    assert progress.calls[1] == (f"building with {rtx_platform().product}", 0.0)


def test_an_unsupported_operator_comes_back_with_its_node() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="stem/Relu_0"),
        helper.make_node("Det", ["r"], ["z"], name="head.det/Det_1"),
    ]
    data = model(nodes, (2, 3, 3), (2,)).SerializeToString()
    with pytest.raises(
        BuildError,
        match=r"'head.det/Det_1' \(Det of float 2x3x3\) of module head.det: this operator is not .*1 of",
    ):
        build_plan(rtx_platform(), data, BuildRequest(STATIC, ADA), SILENCE)


def test_a_wrong_attribute_comes_back_with_its_node_and_the_parsers_words() -> None:
    broken = conv_relu()
    broken.graph.node[0].attribute.append(helper.make_attribute("group", 5))
    with pytest.raises(BuildError, match=r"'layer1.0.conv2/Conv_0'") as caught:
        build_plan(rtx_platform(), broken.SerializeToString(), BuildRequest(STATIC, ADA), SILENCE)
    assert "\n" not in str(caught.value)


def test_where_a_node_is_to_blame_only_nodes_are_named() -> None:
    """A text input also fails on import, with a failed assertion of the parser's own source and no node."""
    nodes = [helper.make_node("StringNormalizer", ["x"], ["z"], name="text/StringNormalizer_0")]
    text = model(nodes, (2,), (2,))
    for value in (*text.graph.input, *text.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(BuildError, match="'text/StringNormalizer_0'") as caught:
        build_plan(rtx_platform(), text.SerializeToString(), BuildRequest((), ADA), SILENCE)
    assert "Assertion" not in str(caught.value)


def test_bytes_that_are_no_model_are_our_error() -> None:
    with pytest.raises(BuildError, match=r"cannot import the graph: .*Failed to parse"):
        build_plan(rtx_platform(), b"no model", BuildRequest(STATIC, ADA), SILENCE)


def test_a_dynamic_input_without_a_range_is_our_error() -> None:
    with pytest.raises(BuildError, match="input 'x' has dynamic axes"):
        build_plan(rtx_platform(), conv_relu("N").SerializeToString(), BuildRequest((), ADA), SILENCE)


def _workspace(mib: int) -> TensorRTOptions:
    return TensorRTOptions({Pool.WORKSPACE: mib * MIB})


def _hungry(op: str) -> onnx.ModelProto:
    """Two convolutions that need workspace, or two poolings with an activation between them."""
    shape = ("N", 64, 64, 64)
    if op == "Conv":
        nodes = [conv("a/Conv_0", "x", "c"), conv("a/Conv_1", "c", "z")]
        return model(nodes, shape, shape, {"w": conv_weight(64, 64)})
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node(op, ["x"], ["c"], name="a/Pool_0", **window),
        helper.make_node(op, ["c"], ["z"], name="a/Pool_1", **window),
    ]
    return model(nodes, shape, shape)


@pytest.mark.parametrize(
    ("op", "asked"), [("MaxPool", r" \(it asked for \d+ MiB\)"), ("Conv", "")], ids=["memory", "tactic"]
)
def test_too_small_a_workspace_is_our_error(op: str, asked: str) -> None:
    """The builder has two ways to say it; one of them says how much it wanted."""
    low, best, high = ((n, 64, 64, 64) for n in (1, 4, 16))
    inputs = (TensorSpec("x", "float32", ("N", 64, 64, 64), low, best, high),)
    data = _hungry(op).SerializeToString()
    assert build_plan(rtx_platform(), data, BuildRequest(inputs, ADA, _workspace(4096)), SILENCE).data
    with pytest.raises(BuildError, match=rf"within a workspace of 1 MiB{asked}; give a larger --workspace"):
        build_plan(rtx_platform(), data, BuildRequest(inputs, ADA, _workspace(1)), SILENCE)


def test_an_interrupt_cancels_the_build_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.001)
    data = conv_chain(40).SerializeToString()
    request = BuildRequest((TensorSpec("x", "float32", (1, 32, 32, 32)),), ADA)
    progress = Recorder(KeyboardInterrupt(), at=3)
    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx_platform(), data, request, progress)
    assert len(progress.calls) == 3, "the listener was called again after it cancelled"
    quiet = Recorder()
    assert build_plan(rtx_platform(), data, request, quiet).data
    fractions = [f for _, f in quiet.calls if f is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0


def test_a_builder_that_cannot_start_is_a_missing_capability() -> None:
    real = rtx_platform().module

    def refuse(logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    parts = {"__name__": "tensorrt", "__version__": "10", "ILogger": real.ILogger, "Builder": refuse}
    module = cast(ModuleType, SimpleNamespace(**parts))
    with pytest.raises(CapabilityError, match="TensorRT 10 cannot start its builder here"):
        build_plan(Platform(module, NoGpu(""), ""), b"", BuildRequest(()), SILENCE)
    with recording(module) as (_, messages):
        assert messages.errors == [], "the failed build left its lock or its messages behind"
