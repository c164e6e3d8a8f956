"""Two complementary masks become one, exactly; anything else is left."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scconv_deploy.programs.masks import one_mask
from scconv_deploy.runtime.onnx import OnnxRunner

FIRST = np.array([1, 0, 0, 1], np.float32).reshape(1, 4, 1, 1)


def two_masks(second: np.ndarray, operator: str = "Mul") -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    x, a, b = (helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 4, 2, 2)) for n in ("x", "a", "b"))
    nodes = [helper.make_node("Mul", ["m", "x"], ["a"]), helper.make_node(operator, ["n", "x"], ["b"])]
    stored = {"m": FIRST, "n": second}
    tensors = [numpy_helper.from_array(v, k) for k, v in stored.items()]
    graph = helper.make_graph(nodes, "g", [x], [a, b], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), stored


def test_the_pair_is_computed_from_one_mask() -> None:
    model, stored = two_masks(1 - FIRST)
    changed = one_mask(model, stored)
    assert all("n" not in node.input for node in changed.graph.node)
    x = np.random.default_rng(0).standard_normal((1, 4, 2, 2)).astype(np.float32)
    with OnnxRunner(model.SerializeToString()) as old, OnnxRunner(changed.SerializeToString()) as new:
        before, after = old.run({"x": x}), new.run({"x": x})
    assert all(np.array_equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("second", [FIRST, 1 - 0.5 * FIRST, np.zeros_like(FIRST)])
def test_what_is_no_complement_stays(second: np.ndarray) -> None:
    model, stored = two_masks(second)
    assert one_mask(model, stored) is model


def test_a_mask_that_is_added_stays() -> None:
    model, stored = two_masks(1 - FIRST, "Add")
    assert one_mask(model, stored) is model


def dropped_product(mask: np.ndarray) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """``a = m * sigmoid(x) * x``, ``b = sigmoid(x) * x``: the product with a mask of ones is gone."""
    x, a, b = (helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 4, 2, 2)) for n in ("x", "a", "b"))
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Mul", ["m", "s"], ["ms"]),
        helper.make_node("Mul", ["ms", "x"], ["a"]),
        helper.make_node("Mul", ["s", "x"], ["b"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [a, b], [numpy_helper.from_array(mask, "m")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), {"m": mask}


def test_the_product_that_a_simplifier_dropped_is_put_back() -> None:
    model, stored = dropped_product(np.zeros_like(FIRST))
    changed = one_mask(model, stored)
    assert sum("m" in node.input for node in changed.graph.node) == 2
    x = np.random.default_rng(0).standard_normal((1, 4, 2, 2)).astype(np.float32)
    with OnnxRunner(model.SerializeToString()) as old, OnnxRunner(changed.SerializeToString()) as new:
        before, after = old.run({"x": x}), new.run({"x": x})
    assert all(np.array_equal(before[k], after[k]) for k in before)


def test_beside_a_mask_with_a_one_nothing_was_dropped() -> None:
    model, stored = dropped_product(FIRST)
    assert one_mask(model, stored) is model
