"""The import check: passes on a right reading, and rings for a wrong one at the right node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import InputError
from scconv_deploy.interpret.node import OPERATORS, Node, Run
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.programs import segments
from scconv_deploy.programs.check import check_import
from scconv_deploy.programs.network import network
from scconv_deploy.programs.onnx_file import from_model
from scconv_deploy.programs.regions import find_regions
from tests.programs.naive import family_net

INPUTS = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}


def shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def test_every_step_is_compared_those_inside_regions_too() -> None:
    model = shaped(family_net("F3", "tracer"))
    flat = check_import(model, OnnxProgram(model), INPUTS)
    module, uncut = network(model, find_regions(model))
    assert uncut == ()
    assert check_import(model, module, INPUTS) == flat > 30


@pytest.mark.parametrize(("limit", "size"), [("STRETCH_NODES", 1), ("STRETCH_ELEMENTS", 5_000)])
def test_a_stretch_at_a_time_gives_the_same(limit: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = shaped(family_net("F3", "tracer"))
    whole = check_import(model, OnnxProgram(model), INPUTS)
    monkeypatch.setattr(segments, limit, size)
    assert len(segments.stretches(model)) > 3
    module, _ = network(model, find_regions(model))
    assert check_import(model, module, INPUTS) == whole


def wrong_sigmoid(node: Node) -> Run:
    return lambda call, values: torch.sigmoid(call.tensor(values[0])) * (1 + 1e-4)


def wrong_greater(node: Node) -> Run:
    def run(call: Any, values: Sequence[Any]) -> Any:
        return call.tensor(values[0]) <= call.tensor(values[1])

    return run


def wrong_add(node: Node) -> Run:
    return lambda call, values: call.tensor(values[0]) - call.tensor(values[1])


def wrong_shape(node: Node) -> Run:
    return lambda call, values: torch.softmax(call.tensor(values[0]), 1)[:, :1]


@pytest.mark.parametrize(
    ("operator", "wrong", "words"),
    [
        ("Sigmoid", wrong_sigmoid, "differs from ONNX Runtime by"),
        ("Greater", wrong_greater, "other whole numbers"),
        ("Add", wrong_add, "differs from ONNX Runtime by"),
        ("Softmax", wrong_shape, "makes a tensor of shape"),
    ],
)
def test_a_wrong_reading_is_refused_and_named(
    operator: str, wrong: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATORS, operator, wrong)
    with pytest.raises(InputError, match=f"operator {operator} .*{words}"):
        from_model(family_net("F3", "tracer"), "net.onnx", "ONNX model", ExportConfig(target="onnx"))


def wrong_epsilon(node: Node) -> Run:
    """Group norm with a tenth more eps: 5e-7 off where the variance is one, below every tolerance there."""
    epsilon = 1.1 * node.number("epsilon", 1e-5)

    def run(call: Any, values: Sequence[Any]) -> Any:
        x, scale, bias = (call.tensor(v) for v in values)
        return torch.nn.functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon)

    return run


def right_epsilon(node: Node) -> Run:
    def run(call: Any, values: Sequence[Any]) -> Any:
        x, scale, bias = (call.tensor(v) for v in values)
        return torch.nn.functional.instance_norm(x, weight=scale, bias=bias, eps=node.number("epsilon", 1e-5))

    return run


def test_a_slightly_wrong_epsilon_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_net("F3", "tracer")  # a group norm, which the tracer writes as an instance norm
    assert any(n.op_type == "InstanceNormalization" for n in model.graph.node)
    monkeypatch.setitem(OPERATORS, "InstanceNormalization", right_epsilon)
    assert from_model(model, "net.onnx", "ONNX model", ExportConfig(target="onnx"))
    monkeypatch.setitem(OPERATORS, "InstanceNormalization", wrong_epsilon)
    with pytest.raises(InputError, match=r"InstanceNormalization .* on an input of almost no variance"):
        from_model(model, "net.onnx", "ONNX model", ExportConfig(target="onnx"))
