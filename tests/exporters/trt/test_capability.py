"""Precision and compute capability, answered before anything is built."""

from types import ModuleType, SimpleNamespace
from typing import cast

import numpy as np
import pytest
from onnx import TensorProto, helper

from exporters.trt import capability
from exporters.trt.build import build_plan
from exporters.trt.layers import read_kernels
from exporters.trt.settings import BuildRequest
from exporters.trt.types import precision_built
from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.config import Precision
from scconv_deploy.errors import BuildError, CapabilityError, InputError
from scconv_deploy.runtime.nvidia_driver import Gpu
from tests.exporters.trt.models import SILENCE, model, rtx, rtx_platform


def _module(*members: str) -> ModuleType:
    known = SimpleNamespace(**dict.fromkeys(members, 1))
    return cast(ModuleType, SimpleNamespace(ComputeCapability=known, __version__="1.0"))


ALL = _module("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")


@pytest.mark.parametrize("text", ["sm_89", "SM89", "sm89", "89", "8.9", " 8.9 "])
def test_every_spelling_means_the_same(text: str) -> None:
    assert capability.parse(text) == "sm_89"


@pytest.mark.parametrize(("text", "name"), [("12.0", "sm_120"), ("75", "sm_75"), ("12.1", "sm_121")])
def test_two_digit_generations(text: str, name: str) -> None:
    assert capability.parse(text) == name


def test_hopper_is_refused_with_the_way_out_and_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"cannot build for sm_90; the nearest .* sm_89 .*(?s:.)*--target trt"
    ):
        capability.parse("sm_90")


@pytest.mark.parametrize("text", ["ada", "sm_", "8", "8.9.1", ""])
def test_nonsense_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(InputError, match=r"write it like sm_89, 89 or 8\.9") as caught:
        capability.parse(text)
    assert "fp32 " in str(caught.value)


def test_nothing_asked_means_all_that_the_precision_allows() -> None:
    chosen = {p: capability.choose((), p, ALL) for p in Precision}
    assert chosen[Precision.FP32] == ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
    assert chosen[Precision.FP16] == ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
    assert chosen[Precision.BF16] == ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
    assert chosen[Precision.INT8] == ("sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
    assert chosen[Precision.FP8] == ("sm_89", "sm_120", "sm_121")


def test_float32_for_turing_is_built_where_it_is_named() -> None:
    """Its Linear head is then a convolution, which no other GPU needs."""
    assert capability.choose(("sm_75",), Precision.FP32, ALL) == ("sm_75",)
    assert "sm_75" not in capability.choose((), Precision.FP32, ALL)


def test_int8_for_turing_is_refused_with_what_would_be_built() -> None:
    with pytest.raises(InputError, match=r"int8 cannot be built for sm_75: .* convolves in fp16"):
        capability.choose(("sm_75",), Precision.INT8, ALL)


def test_asked_ones_are_sorted_and_deduplicated_whatever_their_spelling() -> None:
    assert capability.choose(("sm_120,8.9", "89"), Precision.FP32, ALL) == ("sm_89", "sm_120")


@pytest.mark.parametrize("precision", list(Precision))
def test_every_combination_is_either_chosen_or_refused_with_its_reason(precision: Precision) -> None:
    for name in capability.AVAILABLE:
        reason = capability.REFUSED[precision].get(name)
        if reason is None:
            assert capability.choose((name,), precision, ALL) == (name,)
            continue
        with pytest.raises(InputError) as caught:
            capability.choose((name,), precision, ALL)
        assert reason in str(caught.value)
        assert capability.table() in str(caught.value)


def test_an_older_version_offers_what_it_knows_and_refuses_the_rest_by_name() -> None:
    older = _module("SM80", "SM86", "SM89")
    assert capability.choose((), Precision.FP32, older) == ("sm_80", "sm_86", "sm_89")
    with pytest.raises(CapabilityError, match="does not know sm_121; it knows sm_80, sm_86, sm_89"):
        capability.choose(("121",), Precision.FP32, older)


def test_tensorrt_builds_only_for_the_gpu_that_is_here() -> None:
    here = Gpu("H200", "sm_90")
    assert capability.only_here((), here) == ("sm_90",)
    assert capability.only_here(("9.0",), here) == ("sm_90",)
    with pytest.raises(InputError, match=r"H200 \(sm_90\), not for 'sm_89'"):
        capability.only_here(("sm_90,sm_89",), here)


def test_the_table_names_what_the_installed_version_has() -> None:
    members = rtx().ComputeCapability.__members__
    assert {capability.member(c) for c in capability.AVAILABLE} == set(members) - {"NONE", "CURRENT"}


def _typed_conv(precision: Precision) -> bytes:
    """One convolution in the precision's own types; INT8 and FP8 as Q/DQ around it."""
    types = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}
    kind = types.get(precision, TensorProto.FLOAT)
    quantised = {Precision.INT8: TensorProto.INT8, Precision.FP8: TensorProto.FLOAT8E4M3FN}.get(precision)
    weights = [helper.make_tensor("w", kind, [32, 32, 1, 1], np.full(1024, 0.1))]
    nodes = []
    operands = {"x": "x", "w": "w"}
    if quantised is not None:
        weights.append(helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]))
        weights.append(helper.make_tensor("o", quantised, [], b"\0", raw=True))
        for name in "xw":
            nodes.append(helper.make_node("QuantizeLinear", [name, "s", "o"], [f"{name}q"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}q", "s", "o"], [f"{name}d"]))
        operands = {"x": "xd", "w": "wd"}
    nodes.append(helper.make_node("Conv", [operands["x"], operands["w"]], ["z"], name="a/Conv_0"))
    shape = [2, 32, 8, 8]
    ends = [helper.make_tensor_value_info(n, kind, shape) for n in "xz"]
    graph = helper.make_graph(nodes, "typed", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 22)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


@pytest.mark.parametrize("precision", list(Precision))
def test_what_the_table_allows_is_built_all_in_one_plan_and_in_that_precision(precision: Precision) -> None:
    platform = rtx_platform()
    allowed = capability.choose((), precision, platform.module)
    plan = build_plan(platform, _typed_conv(precision), BuildRequest((), allowed), SILENCE)
    assert precision_built(read_kernels(plan.layers or "")) == precision.value


@pytest.mark.parametrize(
    ("precision", "refused"),
    [(Precision.BF16, "sm_75"), (Precision.FP8, "sm_75"), (Precision.FP8, "sm_80"), (Precision.FP8, "sm_86")],
)
def test_what_the_table_refuses_the_builder_refuses_too(precision: Precision, refused: str) -> None:
    """A builder that has learnt it makes the table out of date."""
    assert refused in capability.REFUSED[precision]
    with pytest.raises(BuildError, match="refused the graph"):
        build_plan(rtx_platform(), _typed_conv(precision), BuildRequest((), (refused,)), SILENCE)


def _product() -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"], name="fc/MatMul_0")]
    weights = {"w": np.ones((8, 16), np.float32)}
    return bytes(model(nodes, (2, 8), (2, 16), weights).SerializeToString())


def test_the_table_is_right_about_fp32_products_on_turing() -> None:
    """The refusal is the builder's own; a builder that has learnt it makes the table out of date."""
    platform = rtx_platform()
    inputs = (TensorSpec("x", "float32", (2, 8)),)
    with pytest.raises(BuildError, match="fc/MatMul_0"):
        build_plan(platform, _product(), BuildRequest(inputs, ("sm_75",)), SILENCE)
    allowed = capability.choose((), Precision.FP32, platform.module)
    assert build_plan(platform, _product(), BuildRequest(inputs, allowed), SILENCE).data
