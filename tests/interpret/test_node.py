"""Half arithmetic: every operator's result is what rounding the exact result once gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.interpret.runner import to_numpy
from scconv_deploy.interpret.values import from_numpy
from tests.interpret.graphs import one_node

KINDS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
RNG = np.random.default_rng(3)
EXACT = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
ROUNDED: dict[str, Callable[[Any], Any]] = {
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
}


def draw(kind: str, *shape: int) -> np.ndarray:
    return np.asarray(np.abs(RNG.standard_normal(shape)) + 0.01).astype(KINDS[kind])


def run(
    op_type: str,
    arrays: list[np.ndarray],
    constants: dict[int, np.ndarray] | None = None,
    **attributes: Any,
) -> np.ndarray:
    proto, feeds = one_node(op_type, arrays, constants, 22, **attributes)
    program = OnnxProgram(proto)
    return to_numpy(program.evaluate({n: from_numpy(a) for n, a in feeds.items()}, ["y0"])["y0"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op_type", EXACT)
def test_arithmetic_is_correctly_rounded(op_type: str, kind: str) -> None:
    a, b = draw(kind, 500), draw(kind, 500)
    wanted = EXACT[op_type](a.astype(np.float64), b.astype(np.float64)).astype(KINDS[kind])
    made = run(op_type, [a, b])
    assert made.dtype == wanted.dtype
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("op_type", ROUNDED)
def test_functions_are_rounded_once(op_type: str, kind: str) -> None:
    """float32 inside can round to the other neighbour only within 2^-23 of a tie: at most once in 500."""
    x = draw(kind, 500)
    wanted = ROUNDED[op_type](x.astype(np.float64)).astype(KINDS[kind])
    assert (run(op_type, [x]) != wanted).sum() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_wide_and_rounded_once(kind: str) -> None:
    """Convolution, product, mean and softmax: nearly all results are the rounded exact ones."""
    x, w = draw(kind, 2, 16, 9, 9), draw(kind, 8, 16, 3, 3)
    x64, w64 = (torch.from_numpy(a.astype(np.float64)) for a in (x, w))
    wide = torch.nn.functional.conv2d(x64, w64).numpy()
    for made in (run("Conv", [x], {1: w}), run("Conv", [x, w])):
        assert np.mean(made != wide.astype(KINDS[kind])) < 0.005
    a, b = draw(kind, 8, 300), draw(kind, 300, 8)
    exact = (a.astype(np.float64) @ b.astype(np.float64)).astype(KINDS[kind])
    assert np.mean(run("MatMul", [a, b]) != exact) < 0.05
    mean = x.astype(np.float64).mean((2, 3), keepdims=True).astype(KINDS[kind])
    assert np.mean(run("ReduceMean", [x], {1: np.array([2, 3])}) != mean) < 0.05
    soft = np.exp(a.astype(np.float64))
    soft = (soft / soft.sum(1, keepdims=True)).astype(KINDS[kind])
    assert np.mean(run("Softmax", [a], axis=1) != soft) < 0.01


def test_a_float32_result_is_not_a_half_one() -> None:
    """Broken twin: the comparison above tells the widened graph from the half one."""
    a, b = draw("float16", 500), draw("float16", 500)
    proto, feeds = one_node("Mul", [a, b], {}, 22)
    lifted = OnnxProgram(proto, lift=torch.float32)
    made = lifted.evaluate({n: from_numpy(v) for n, v in feeds.items()}, ["y0"])["y0"].numpy()
    wanted = (a.astype(np.float64) * b.astype(np.float64)).astype(np.float16)
    assert np.mean(made != wanted.astype(np.float32)) > 0.5
