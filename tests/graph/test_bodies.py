"""Fused nodes in standard operators: named after the call, and the same function."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from scconv_deploy.graph.bodies import fused_sru, in_standard_operators
from scconv_deploy.graph.precision import block_types
from scconv_deploy.graph.units import find_units
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.fused_ops import DOMAIN
from scconv_deploy.scconv.spec import Gate, SCConvSpec
from tests.scconv.axes import base, sru
from tests.scconv.test_deploy import reference_of
from tests.scconv.test_emit import deploy_of
from tests.scconv.test_emit_fused import FUSED, model_of


def written(spec: SCConvSpec, dtype: int = onnx.TensorProto.FLOAT) -> onnx.ModelProto:
    model = model_of(deploy_of(reference_of(spec), FUSED), dtype=dtype)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.name.rpartition('/')[0]}/{node.op_type}_{index}"
    return model


def test_the_gate_and_its_border_are_found_in_the_body() -> None:
    model = written(base())
    node = fused_sru(model, "b")
    assert node is not None
    assert find_units(model, "b").gate is None
    flat = in_standard_operators(model)
    assert not any(n.domain == DOMAIN for n in flat.graph.node)
    assert all(n.name.startswith("b") for n in flat.graph.node)
    assert len({n.name for n in flat.graph.node}) == len(flat.graph.node)
    units = find_units(flat, "b")
    assert units.gate is not None
    assert units.gate.node.startswith(f"{node.name}~Greater_")
    assert not units.gate.half
    assert not units.gate.literal
    assert units.halves == tuple(node.output)
    assert units.sru_input == node.input[0]
    assert fused_sru(flat, "b") is None
    assert fused_sru(model, "a") is None


def test_it_is_the_same_function_and_a_changed_attribute_is_another() -> None:
    model = written(base())
    x = np.random.default_rng(0).standard_normal((2, 8, 6, 6)).astype(np.float32)

    def result(made: onnx.ModelProto) -> np.ndarray:
        with OnnxRunner(made.SerializeToString(), threads=1, use_kernels=False) as runner:
            return np.asarray(runner.run({"x": x})["y"])

    want = result(model)
    np.testing.assert_allclose(result(in_standard_operators(model)), want, atol=1e-6)
    node = fused_sru(model, "b")
    assert node is not None
    next(a for a in node.attribute if a.name == "epsilon").f = 0.5
    assert np.abs(result(in_standard_operators(model)) - want).max() > 1e-3


def test_a_graph_without_our_functions_is_left_alone() -> None:
    flat = in_standard_operators(written(base()))
    assert in_standard_operators(flat) is flat


@pytest.mark.parametrize(("dtype", "name"), [(1, "fp32"), (10, "fp16")])
def test_fused_nodes_compute_in_float32(dtype: int, name: str) -> None:
    types = block_types(written(base(), dtype), ("b", "a"))
    assert types["b"]["gate"] == types["b"]["fuse"] == "fp32"
    assert types["a"] == {}
    if dtype == 1:  # half's constants are not typed by this writer
        assert types["b"]["convolutions"] == name
    assert "gate" not in block_types(written(sru(gate=Gate.STATIC, threshold=0.1), dtype), ("b",))["b"]
