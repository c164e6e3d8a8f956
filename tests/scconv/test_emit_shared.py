"""The shared form gives the standard form's bits, in torch and in ONNX Runtime; its twins do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch

from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit_shared import takes_shared
from scconv_deploy.scconv.reference import constants
from scconv_deploy.scconv.spec import Comparison, Gate, Gated, Reconstruct, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.axes import SHAPES, base, specifications, sru
from tests.scconv.test_deploy import edge_module, inputs_for, reference_of
from tests.scconv.test_emit import BROKEN, TOLERANCE, error_of, model_of, session

SHARED = GraphStyle(shared_rest=True)
SPECIFICATIONS = {
    name: spec
    for name, spec in specifications().items()
    if spec.sru is not None and takes_shared(spec.sru, SHARED)
}
FREE = ("n", 8, "h", "w")


def of(spec: SCConvSpec, style: GraphStyle) -> DeploySCConv:
    return DeploySCConv(spec, constants(reference_of(spec)), style).eval()


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_the_bits_of_the_standard_form(name: str) -> None:
    spec = SPECIFICATIONS[name]
    plain, shared = of(spec, GraphStyle()), of(spec, SHARED)
    with torch.no_grad():
        for x in inputs_for(spec):
            assert torch.equal(plain(x), shared(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_bits_in_half_precision(dtype: torch.dtype) -> None:
    x = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(2)).to(dtype)
    plain, shared = of(base(), GraphStyle()).sru, of(base(), SHARED).sru
    assert plain is not None
    assert shared is not None
    with torch.no_grad():
        for first, second in zip(plain.to(dtype)(x), shared.to(dtype)(x), strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("gated", Gated)
@pytest.mark.parametrize("literal", [False, True])
def test_the_operators_at_the_edge_and_off_it(comparison: Comparison, gated: Gated, literal: bool) -> None:
    style = GraphStyle(shared_rest=True, literal_gate=literal)
    edge = edge_module(Gate.SOFT, comparison)
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(5))
    assert (
        error_of(model_of(DeploySCConv(edge.spec, constants(edge), style), 20, FREE), edge, (), x)
        <= TOLERANCE
    )
    module = reference_of(sru(comparison=comparison, gated=gated, threshold=0.5 if literal else 0.52))
    model = model_of(DeploySCConv(module.spec, constants(module), style), 20, FREE)
    assert error_of(model, module, SHAPES) <= TOLERANCE


def test_the_graph_gives_the_bits_of_the_standard_graph() -> None:
    x = np.random.default_rng(4).standard_normal((2, 8, 9, 9)).astype(np.float32)
    plain, shared = (
        session(model_of(of(base(), s), 20, FREE)).run(None, {"x": x})[0] for s in (GraphStyle(), SHARED)
    )
    np.testing.assert_array_equal(plain, shared)


def test_it_passes_over_memory_less_often() -> None:
    counts = [
        sum(
            n.op_type in ("Mul", "Max", "Sub") and ".sru/" in n.name
            for n in model_of(of(base(), s), 20, FREE).graph.node
        )
        for s in (GraphStyle(), SHARED)
    ]
    assert counts[1] == counts[0] - 1


def own_instead_of_rest(model: onnx.ModelProto) -> None:
    """``q_a + q_b`` where ``p_a + p_b`` belongs."""
    own, _ = (n for n in model.graph.node if n.op_type == "Split" and ".sru/" in n.name)
    _shared(model).input[:] = own.output


def one_sided(model: onnx.ModelProto) -> None:
    """The rest of a in both places."""
    node = _shared(model)
    node.input[1] = node.input[0]


def other_half(model: onnx.ModelProto) -> None:
    """q_b for y_a and q_a for y_b: without reconstruction the halves change places."""
    first, second = [n for n in model.graph.node if n.op_type == "Add" and ".sru/" in n.name][-2:]
    first.input[0], second.input[0] = second.input[0], first.input[0]


def opened_twice(model: onnx.ModelProto) -> None:
    """``r x`` instead of ``r (x - q)``: the rest of what was kept."""
    (sub,) = (n for n in model.graph.node if n.op_type == "Sub" and ".sru/" in n.name)
    (product,) = (n for n in model.graph.node if sub.output[0] in n.input)
    product.input[1] = sub.input[0]


def _shared(model: onnx.ModelProto) -> onnx.NodeProto:
    found = [n for n in model.graph.node if n.op_type == "Add" and ".sru/" in n.name]
    return found[-3]


@pytest.mark.parametrize("twin", [own_instead_of_rest, one_sided, other_half, opened_twice])
def test_twins_are_seen(twin: Callable[[onnx.ModelProto], None]) -> None:
    module = reference_of(base())
    model = model_of(of(base(), SHARED), 20, FREE)
    assert error_of(model, module, SHAPES) <= TOLERANCE
    twin(model)
    assert error_of(model, module, SHAPES) > BROKEN


@pytest.mark.parametrize(
    "spec",
    [
        sru(gate=Gate.HARD),
        sru(gate=Gate.COMPLEMENT_SOFT),
        sru(gate=Gate.STATIC),
        sru(reconstruct=Reconstruct.WITHIN),
        sru(threshold=2.0),
    ],
)
def test_where_a_precondition_fails_the_standard_form_is_written(spec: SCConvSpec) -> None:
    assert spec.sru is not None
    assert not takes_shared(spec.sru, SHARED)
    kinds = [[n.op_type for n in model_of(of(spec, s), 20, FREE).graph.node] for s in (GraphStyle(), SHARED)]
    assert kinds[0] == kinds[1]
    assert not takes_shared(base().sru, GraphStyle(shared_rest=True, where_mask=True))  # type: ignore[arg-type]
