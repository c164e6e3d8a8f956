from __future__ import annotations

import math
from typing import Any

import pytest

from scconv_deploy.bench_config import BenchConfig
from scconv_deploy.config import (
    ExportConfig,
    Precision,
    ShapeRange,
    dims,
    parse_dims,
    parse_named_dims,
    parse_precision,
    shape_ranges,
)
from scconv_deploy.errors import InputError


def test_dims_both_ways() -> None:
    assert parse_dims("1x3x224x224") == (1, 3, 224, 224)
    assert dims((1, 3, 224, 224)) == "1x3x224x224"
    assert dims(()) == "scalar"
    for wrong in ("", "1x", "x1", "1x-3", "ax3", "1x0x3", "1 x 3"):
        with pytest.raises(InputError, match="shape"):
            parse_dims(wrong)


def test_named_shapes_as_trtexec_writes_them() -> None:
    assert parse_named_dims(["a:1x3,b:2x4"]) == {"a": (1, 3), "b": (2, 4)}
    assert parse_named_dims(["1x3"]) == {None: (1, 3)}
    with pytest.raises(InputError, match="given twice"):
        parse_named_dims(["a:1x3", "a:1x4"])


def test_one_shape_is_a_point_and_bounds_make_a_range() -> None:
    (point,) = shape_ranges(["1x3x8x8"])
    assert point == ShapeRange(None, (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8))
    assert point.dynamic_axes == ()
    (moving,) = shape_ranges([], ["1x3x8x8"], ["2x3x8x8"], ["4x3x8x16"])
    assert moving.dynamic_axes == (0, 3)
    assert moving.optimum == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((["1x3"], ["1x3x4"], [], []), "differ in rank"),
        (([], ["4x3"], ["2x3"], ["8x3"]), "min 4, opt 2, max 8"),
        ((["a:1x3"], ["1x3"], [], []), "another names none"),
    ],
)
def test_contradicting_shapes_are_refused(bounds: tuple[list[str], ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        shape_ranges(*bounds)


def test_precisions_and_their_other_names() -> None:
    assert parse_precision("FP16") is parse_precision("half") is Precision.FP16
    with pytest.raises(InputError, match="did you mean 'bf16'"):
        parse_precision("bf61")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(seconds: float) -> None:
    assert ExportConfig("onnx", autotune_seconds=0.5).autotune_seconds == 0.5
    with pytest.raises(InputError, match="--autotune takes a number of seconds above 0"):
        ExportConfig("onnx", autotune_seconds=seconds)


def test_an_unsupported_opset_is_refused() -> None:
    with pytest.raises(InputError, match="opset 9"):
        ExportConfig("onnx", opset=9)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batches": ()}, "--batch"),
        ({"batches": (0,)}, "--batch"),
        ({"threads": (1, -1)}, "--threads"),
        ({"warm_up_ms": -1}, "negative"),
        ({"duration_s": -0.5}, "negative"),
        ({"duration_s": math.nan}, "negative"),
        ({"duration_s": math.inf}, "negative"),
        ({"iterations": 0}, "--iterations"),
    ],
)
def test_a_benchmark_that_cannot_run_is_refused(wrong: dict[str, Any], words: str) -> None:
    assert BenchConfig().batches == (1,)
    with pytest.raises(InputError, match=words):
        BenchConfig(**wrong)
