"""Types read from kernels' arguments: hand-made kernels for the rules, one real half build for the facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporters.tensorrt_engine import TensorRTRTXExporter
from exporters.trt.layers import Kernel
from exporters.trt.types import GENERATED, precision_built, roles_built, types_per_block
from scconv_deploy.config import ExportConfig, Precision, default_opset
from scconv_deploy.stages import trace
from tests.exporters.trt.models import SILENCE, rtx
from tests.exporters.trt.test_report import kernel, tensor
from tests.stages.small import IMAGE, half_lowered

WIDE, HALF = tensor("w"), tensor("h", dtype="Half")
WORDS = tensor("i", dtype="Int64")


def conv(source_is_half: bool, name: str = "b.cru.gwc/Conv_1") -> Kernel:
    source = HALF if source_is_half else WIDE
    # Half convolutions hold float32 scales beside their half weights.
    return kernel("c", (source,), (source,), (source, WIDE), nodes=(name,))


def test_a_convolution_is_as_low_as_its_lowest_argument_and_a_block_as_high_as_its_highest_convolution() -> (
    None
):
    assert roles_built((conv(True),), ("b",)) == {"b": {"convolutions": "fp16"}}
    assert roles_built((conv(True), conv(False)), ("b",)) == {"b": {"convolutions": "fp32"}}
    other = conv(False, "bb.cru.gwc/Conv_1")
    assert roles_built((conv(True), other), ("b", "bb"))["b"] == {"convolutions": "fp16"}


def test_a_gate_shows_its_island() -> None:
    inside = kernel("g", (WIDE, HALF), (HALF,), nodes=("b.sru/Greater_3", "b.sru/Where_4"))
    without = kernel("g", (HALF, WORDS), (HALF,), nodes=("b.sru/Greater_3",))
    assert roles_built((inside,), ("b",)) == {"b": {"gate": "fp32"}}
    assert roles_built((without,), ("b",)) == {"b": {"gate": "fp16"}}


@pytest.mark.parametrize(
    ("dtypes", "built"),
    [
        (("Float", "Int32", "Bool"), "fp32"),
        (("Float", "Half"), "fp16"),
        (("Float", "BFloat16"), "bf16"),
        (("Half", "Int8"), "int8"),
        (("Half", "FP8"), "fp8"),
        (("Float", "UInt8"), "fp32"),
    ],
)
def test_the_precision_is_the_lowest_that_products_read(dtypes: tuple[str, ...], built: str) -> None:
    made = kernel("k", tuple(tensor(d, dtype=d) for d in dtypes), nodes=("head/Gemm_1",))
    assert precision_built((made,)) == built
    assert precision_built((kernel("k", made.inputs),)) == built  # an engine without any product


def test_casts_at_the_border_are_not_the_precision() -> None:
    cast = kernel("cast", (HALF,), (WIDE,), nodes=("Cast_of_input_x",))
    assert precision_built((cast, conv(False))) == "fp32"


def test_types_of_a_blocks_kernels() -> None:
    gate = kernel("g", (WIDE,), (HALF, WIDE), nodes=("b.sru/Greater_3",))
    assert types_per_block((conv(True), gate), ("b", "a")) == {"b": {"fp16": 2, "fp32": 1}, "a": {}}


def test_unknown_types_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown type 'Quarter'"):
        precision_built((kernel("k", (tensor("x", dtype="Quarter"),)),))


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_a_real_build_holds_the_types_of_the_graph(precision: Precision, tmp_path: Path) -> None:
    rtx()
    config = ExportConfig(
        target="trt-rtx", precision=precision, opset=default_opset(precision), compute_capabilities=("sm_89",)
    )
    fixed = replace(IMAGE, shape=(1, 3, 6, 6), maximum=(1, 3, 6, 6))
    graph = trace.run(half_lowered(precision), (fixed,), config)
    built = TensorRTRTXExporter().build(graph, config, tmp_path, SILENCE)
    half = precision.value
    assert built.precision_built == half
    assert built.precision_per_block == {"2": {"convolutions": half, "gate": "fp32", "fuse": "fp32"}}
    assert built.kernel_report is not None
    assert set(built.kernel_report.types_per_block["2"]) >= {half, "fp32"}


def test_a_generated_kernel_beside_the_one_that_multiplies_says_nothing_of_its_type() -> None:
    """An int8 convolution's bias is added by a generated kernel that reads floats and names the convolution."""
    node = ("b.cru.gwc/Conv_3",)
    codes = tensor("q", dtype="Int8")
    multiplies = replace(kernel("a", (codes,), (WIDE,), (), nodes=node), kind="correlation")
    adds = replace(kernel("b", (WIDE,), (HALF,), (), nodes=node), kind=GENERATED)
    assert roles_built((multiplies, adds), ["b"]) == {"b": {"convolutions": "int8"}}
    in_half = replace(kernel("a", (HALF,), (HALF,), (), nodes=node), kind="correlation")
    assert roles_built((in_half, adds), ["b"]) == {"b": {"convolutions": "fp16"}}
    # Where nothing else names it, the generated kernel is what convolves.
    assert roles_built((adds,), ["b"]) == {"b": {"convolutions": "fp32"}}
