"""Where Q/DQ go."""

from __future__ import annotations

import onnx
import pytest

from scconv_deploy.config import Precision
from scconv_deploy.quantise.points import find_points
from tests.parity.nets import ready
from tests.quantise.graphs import INTEGER, SYMMETRIC, copied, residual


def test_an_integer_target_gets_results_residuals_and_pools_as_codes() -> None:
    points = find_points(residual().model, INTEGER)
    assert [(a.name, a.readers is None, a.like) for a in points.activations] == [
        ("image", False, None),
        ("ar", True, None),  # behind the ReLU, not before it
        ("pool", True, "ar"),
        ("c", True, None),
        ("sumr", True, None),
        ("mean", False, None),
    ]
    assert [(p.given, p.axis, p.bias) for p in points.products] == [
        ("image", 0, "b1"),
        ("pool", 0, None),
        ("mean", 0, "b3"),
    ]


def test_a_symmetric_target_gets_only_what_products_read() -> None:
    points = find_points(residual().model, SYMMETRIC)
    assert [a.name for a in points.activations] == ["image", "pool", "mean"]
    assert {n for a in points.activations for n in a.readers or ()} == {p.node for p in points.products}


def test_no_value_inside_an_sru_or_a_fuse_is_quantised() -> None:
    graph = ready(Precision.FP32).graph
    points = find_points(graph.model, INTEGER)
    products = {p.node for p in points.products}
    makers = {v: n for n in graph.model.graph.node for v in n.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for activation in points.activations:
        maker = makers.get(activation.name)
        if maker is not None and ".sru/" in maker.name:
            # Only SRU's results, and only as what a squeeze reads.
            assert activation.readers is not None
            assert activation.readers <= products
            assert all(".sru/" not in n.name for n in readers[activation.name])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m.graph.node[7].attribute.append(onnx.helper.make_attribute("alpha", 2.0)), "scales"),
        (lambda m: m.graph.node[3].input.__setitem__(1, "ar"), "computed"),
    ],
)
def test_what_cannot_be_quantised_is_left_with_its_reason(change: object, why: str) -> None:
    model = copied(residual().model)
    change(model)  # type: ignore[operator]
    ((_, reason),) = find_points(model, SYMMETRIC).left
    assert why in reason
