"""Every operator against the node cases of the ONNX standard itself (inputs and outputs come with onnx)."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from scconv_deploy.interpret.node import OPERATORS
from scconv_deploy.interpret.program import OnnxProgram, unsupported
from scconv_deploy.interpret.runner import to_numpy
from scconv_deploy.interpret.values import from_numpy

TYPES = {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"}
"""Unsigned types of more than 8 bits, strings and 4 and 8 bit floats are no network's values."""

LEFT_OUT = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad": "kept as ONNX Runtime and torch do it",
    "test_reduce_max_empty_set": "the maximum of nothing is refused",
    "test_reduce_min_empty_set": "the minimum of nothing is refused",
    "test_reduce_max_empty_set_bool": "the maximum of nothing is refused",
    "test_resize_downsample_scales_linear_align_corners": "a fractional size is refused",
    "test_resize_downsample_scales_cubic_align_corners": "a fractional size is refused",
}
HALF = {"float16": 2e-3}


@cache
def cases() -> dict[str, list[Any]]:
    """Operator -> its cases of one node, all values in ordinary types."""
    found: dict[str, list[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes infinities on purpose
        collected = collect_testcases(None)
    for case in collected:
        if case.model is None or len(case.model.graph.node) != 1 or case.name in LEFT_OUT:
            continue
        inputs, outputs = case.data_sets[0]
        plain = all(getattr(_array(v), "dtype", None) is not None for v in (*inputs, *outputs))
        if plain and all(_array(v).dtype.name in TYPES for v in (*inputs, *outputs)):
            found.setdefault(case.model.graph.node[0].op_type, []).append(case)
    return found


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, (np.ndarray, np.generic, int, float)) else value


def compare(case: Any) -> None:
    """Types and shapes equal, values to float32's (or half's) rounding."""
    inputs, outputs = ([_array(v) for v in part] for part in case.data_sets[0])
    program = OnnxProgram(case.model)
    given = {n: from_numpy(np.asarray(v)) for n, v in zip(program.input_names, inputs, strict=True)}
    made = program.evaluate(given, program.output_names)
    for name, wanted in zip(program.output_names, outputs, strict=True):
        ours = to_numpy(made[name])
        assert (ours.dtype, ours.shape) == (wanted.dtype, wanted.shape), (case.name, name)
        rtol = HALF.get(wanted.dtype.name, 1e-4)
        np.testing.assert_allclose(
            ours.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=1e-5, err_msg=case.name
        )


@pytest.mark.parametrize("op_type", sorted(OPERATORS))
def test_standard_cases(op_type: str) -> None:
    torch.manual_seed(0)
    ours = [case for case in cases().get(op_type, []) if not unsupported(case.model)]
    for case in ours:
        compare(case)


def test_how_many_cases_were_compared() -> None:
    """A registry that refuses everything, or a collection that finds nothing, must not look green."""
    runnable = {
        op: sum(not unsupported(case.model) for case in found)
        for op, found in cases().items()
        if op in OPERATORS
    }
    assert sum(runnable.values()) >= 450
    without = {op for op in OPERATORS if not runnable.get(op)}
    # Shape of a deprecated operator: no case in the standard's table; opset tests have one.
    assert without <= {"Upsample"}, without


@pytest.mark.parametrize(
    ("op_type", "wrong"), [("Add", "Sub"), ("Greater", "GreaterOrEqual"), ("ReduceMax", "ReduceMin")]
)
def test_a_swapped_operator_is_seen(monkeypatch: pytest.MonkeyPatch, op_type: str, wrong: str) -> None:
    """Broken twin: the same comparison with one operator's builder replaced by another's."""
    original = OPERATORS[wrong]

    def swapped(node: Any) -> Any:
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        proto.op_type = wrong
        node.proto = proto
        return original(node)

    monkeypatch.setitem(OPERATORS, op_type, swapped)
    failures = 0
    for case in cases()[op_type]:
        try:
            compare(case)
        except AssertionError:
            failures += 1
    assert failures > 0
