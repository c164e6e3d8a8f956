"""Operations and time from kernels whose arithmetic is known by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporters.trt.cards import Card
from exporters.trt.roofline import kernel_flops, roofline
from tests.exporters.trt.test_report import X, Y, kernel, tensor

CARD = Card("C", "sm_89", bandwidth=100, fp32=1, half=10, int8=20, fp8=0)
WEIGHT = tensor("w", (8, 4, 3, 3))
WIDE = tensor("y", (2, 8, 5, 5))


def test_operations_of_products() -> None:
    per_output = 4 * 9
    convolution = kernel("c", (X,), (WIDE,), (tensor("b", (1, 8, 1, 1)), WEIGHT), kind="correlation")
    assert kernel_flops(convolution) == 2 * (2 * 8 * 25) * per_output
    fused = kernel("__myl_CorrAdd_myl0_3", (X,), (WIDE,), (WEIGHT,), kind="runtime_fusion")
    assert kernel_flops(fused) == kernel_flops(convolution)
    product = kernel("__myl_FcRelu_myl0_1", (X,), (tensor("y", (1, 6, 49)),), (tensor("w", (1, 6, 10)),))
    assert kernel_flops(product) == 2 * 6 * 49 * 10


def test_what_only_prepares_a_convolution_computes_nothing() -> None:
    prepared = kernel("__myl_CastConc_myl0_0", (X,), (Y,), (WEIGHT,), ("stem.0/Conv_0",))
    assert kernel_flops(prepared) == 0
    assert kernel_flops(kernel("__myl_Mean_myl0_0", (X,), (Y,), (WEIGHT,))) == 0
    assert kernel_flops(kernel("c", (X,), (Y,), kind="correlation")) == 0


def test_each_kernel_takes_the_larger_of_its_two_times() -> None:
    moving = kernel("m", (tensor("x", (1, 1000, 100, 1)),), ())  # 400,000 bytes: 4 us at 100 GB/s
    computing = kernel("c", (X,), (WIDE,), (WEIGHT,), kind="correlation")  # 28,800 operations: 0.0288 us
    heavy = kernel("h", (X,), (tensor("y", (1, 8, 500, 1)),), (tensor("w", (8, 4000)),), kind="gemm")
    made = roofline((moving, computing, heavy, kernel("host", kind="shape_call")), CARD)
    small = (16 + 400 + 288) * 4 / 100e3
    big_bytes, big_flops = (16 + 4000 + 32000) * 4 / 100e3, 2 * 8 * 500 * 4000 / 1e6
    assert small > 0.0288 / 1.01 - 0.01
    assert made.memory_us == pytest.approx(4 + small + big_bytes, abs=0.01)
    assert made.arithmetic_us == pytest.approx(0.0288 + big_flops, abs=0.01)
    assert made.time_us == pytest.approx(4 + max(small, 0.0288) + max(big_bytes, big_flops), abs=0.01)
    assert made.time_us < made.memory_us + made.arithmetic_us
    assert made.flops == 28_800 + 2 * 8 * 500 * 4000
    assert made.words.startswith("estimate, not measured: at least 36 us on C")
    assert made.words.endswith("3 launches come on top")


def test_the_rate_is_that_of_the_products_type() -> None:
    def arithmetic(dtype: str) -> float:
        weight = tensor("w", (8, 4000), dtype)
        source = tensor("x", (1, 4000), dtype)
        return roofline(
            (kernel("h", (source,), (tensor("y", (1, 8, 500, 1)),), (weight,), kind="gemm"),), CARD
        ).arithmetic_us

    assert arithmetic("Float") == pytest.approx(10 * arithmetic("Half"), abs=0.1)
    assert arithmetic("Int8") == pytest.approx(arithmetic("Half") / 2, abs=0.1)


def test_a_free_dimension_is_an_error() -> None:
    with pytest.raises(ValueError, match="free dimension"):
        roofline((kernel("a", (tensor("x", (-1, 4, 2, 2)),), (Y,)),), CARD)


def test_a_small_networks_estimate_is_no_zero() -> None:
    card = replace(CARD, bandwidth=1e3)
    moving = kernel("m", (tensor("x", (1, 1000, 100, 1)),), ())
    assert "at least 0.4 us on C" in roofline((moving,), card).words
    assert "at least 36 us on C" in roofline((moving,) * 9, CARD).words
