"""Code that is not recognised and divides by Python's ``sum`` over a parameter still exports small."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from scconv_deploy.artifacts import LoweredModel, Recognition, TensorSpec
from scconv_deploy.config import ExportConfig
from scconv_deploy.stages import trace
from scconv_deploy.stages.trace import tensor_aware_sum

CHANNELS = 512
ONE = (1, CHANNELS, 4, 4)
SPEC = (TensorSpec("x", "float32", ("batch", *ONE[1:]), ONE, ONE, (8, *ONE[1:])),)


class Unrecognised(nn.Module):
    """Not an SCConv block: a channel reweighting that divides by ``sum(gamma)`` the way copies of SRU do."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.gamma = nn.Parameter(torch.rand(CHANNELS, 1, 1, generator=generator) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.gamma / sum(self.gamma)
        return torch.tanh(x * weight * CHANNELS)


@pytest.fixture
def lowered() -> LoweredModel:
    module = Unrecognised().eval()
    return LoweredModel(module, module, Recognition((), ()), (), ())


def test_the_sum_is_one_reduction_with_the_same_numbers(lowered: LoweredModel) -> None:
    graph = trace.run(lowered, SPEC, ExportConfig("onnx"))
    assert len(graph.model.graph.node) <= 12
    x = torch.randn(3, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(1))
    session = ort.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    with torch.no_grad():
        want = lowered.reference(x)
    np.testing.assert_allclose(got, want.numpy(), rtol=2e-6, atol=1e-6)


def test_what_the_exporter_has_to_chew_is_small_only_with_the_cure() -> None:
    """The broken twin: without the cure the traced program has nodes for every channel.

    The exporter folds them away afterwards, which is what takes minutes: the final graph does not show it.
    """
    module, example = Unrecognised().eval(), (torch.zeros(2, CHANNELS, 4, 4),)
    with tensor_aware_sum():
        cured = torch.export.export(module, example)
    plain = torch.export.export(module, example)
    assert len(cured.graph.nodes) <= 12
    assert len(plain.graph.nodes) > CHANNELS


class SumsActivations(nn.Module):
    """A sum that no constant folding removes: over the channels of the input's mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = torch.sigmoid(x.mean((2, 3))).transpose(0, 1)
        return (pooled / sum(pooled)).transpose(0, 1)


def test_a_sum_over_activations_stays_one_reduction_in_the_final_graph() -> None:
    module = SumsActivations().eval()
    graph = trace.run(LoweredModel(module, module, Recognition((), ()), (), ()), SPEC, ExportConfig("onnx"))
    assert len(graph.model.graph.node) <= 12
    x = torch.randn(3, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(2))
    session = ort.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(got, module(x).numpy(), rtol=1e-5, atol=1e-9)


def test_builtin_sum_is_restored_after_a_trace_and_after_an_exception(lowered: LoweredModel) -> None:
    original = builtins.sum
    trace.run(lowered, SPEC, ExportConfig("onnx"))
    assert builtins.sum is original

    def failing() -> None:
        with tensor_aware_sum():
            assert builtins.sum is not original
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        failing()
    assert builtins.sum is original


def assert_same(got: object, want: torch.Tensor) -> None:
    assert isinstance(got, torch.Tensor)
    assert torch.equal(got, want)


def test_sums_of_everything_else_are_python_own() -> None:
    def numbers() -> Iterator[int]:
        yield from (1, 2, 3)

    row = torch.arange(12.0).reshape(3, 4)
    with tensor_aware_sum():
        assert sum(numbers()) == 6
        assert sum([0.5, 0.25], 1) == 1.75
        assert sum(()) == 0
        assert sum([1, 2], True) == 4
        assert_same(sum(row), row.sum(0))
        assert_same(sum(row, start=torch.ones(4)), row.sum(0) + 1)
        assert_same(sum([row, row]), 2 * row)
        assert sum(torch.empty(0, 4)) == 0
        with pytest.raises(TypeError, match="0-d"):
            sum(torch.tensor(1.0))
