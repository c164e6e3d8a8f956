"""The centred norm, run by ONNX Runtime in fp32, computes the reference in float64; twins do not."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch

from scconv_deploy.config import Precision
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.interpret.runner import TorchRunner
from scconv_deploy.scconv import emit_centred
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.emit_centred import takes_centred
from scconv_deploy.scconv.operator import BlockCall
from scconv_deploy.scconv.spec import Comparison, Gate, Norm
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.typed import cast_module
from tests.scconv.axes import SHAPES, base, flat_groups, sru
from tests.scconv.test_deploy import edge_module, reference_of
from tests.scconv.test_emit import BROKEN, PATH, SPECIFICATIONS, TOLERANCE, deploy_of, error_of, model_of

CENTRED = GraphStyle(where_mask=True, centred_norm=True)
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
WITH_SRU = [name for name, spec in SPECIFICATIONS.items() if spec.sru is not None]


@pytest.mark.parametrize("block", [0, emit_centred.ONE_BLOCK])
@pytest.mark.parametrize("name", WITH_SRU)
def test_every_axis_value_static_and_free(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the moments: over whole groups, and (as if none fitted a thread block) by channel."""
    monkeypatch.setattr(emit_centred, "ONE_BLOCK", block)
    spec = SPECIFICATIONS[name]
    module = reference_of(spec)
    n, h, w = SHAPES[1]
    for shape in (("n", spec.c_in, h, w), ("n", spec.c_in, "h", "w")):
        model = model_of(deploy_of(module, CENTRED), 20, shape)
        assert error_of(model, module, ((n, h, w),)) <= TOLERANCE, f"{name}, {shape}"


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("gate", [Gate.HARD, Gate.SOFT, Gate.COMPLEMENT_SOFT])
def test_gates_exactly_at_the_threshold(gate: Gate, comparison: Comparison) -> None:
    module = edge_module(gate, comparison)
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(5))
    model = model_of(deploy_of(module, CENTRED), 20, (2, 8, 5, 7))
    assert error_of(model, module, ((2, 5, 7),), x) <= TOLERANCE
    for node in model.graph.node:  # the twin
        if node.op_type in ("Greater", "GreaterOrEqual"):
            node.op_type = "GreaterOrEqual" if node.op_type == "Greater" else "Greater"
    assert error_of(model, module, ((2, 5, 7),), x) > BROKEN


@pytest.mark.parametrize("block", [0, emit_centred.ONE_BLOCK])
def test_a_mean_much_larger_than_the_deviation_costs_no_digits(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means of 1000 deviations: E[x^2] - mu^2 in float32 has no correct digit of the variance left."""
    monkeypatch.setattr(emit_centred, "ONE_BLOCK", block)
    spec = sru(gate=Gate.SOFT)
    assert spec.sru is not None
    module = reference_of(spec)
    x = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(5)) + 1000
    model = model_of(deploy_of(module, CENTRED), 20, (2, 8, 9, 9))
    moments = model_of(deploy_of(module, GraphStyle(where_mask=True, channel_moments=True)), 20, (2, 8, 9, 9))
    good, bad = (_deviation(m, spec.sru.groups, x) for m in (model, moments))
    assert good < 1e-4
    assert bad > 10 * good, "this input does not tell the forms apart"


def _deviation(model: onnx.ModelProto, groups: int, x: torch.Tensor) -> float:
    """Relative error of 1 / sigma as the graph divides by it, against float64."""
    divide = next(
        n for n in model.graph.node if n.op_type == "Div" and "sru" in n.name and _by_sigma(model, n)
    )
    part = onnx.ModelProto()
    part.CopyFrom(model)
    part.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(divide.input[1], FLOAT, None))
    (sigma,) = TorchRunner(part).run({"x": x.numpy()}).values()
    flat = x.double().reshape(len(x), groups, -1)
    want = flat.var(dim=2, unbiased=False, keepdim=True).add(1e-5).sqrt()
    return float((torch.from_numpy(sigma).abs() / want - 1).abs().max())


def _by_sigma(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    made = {v: n for n in model.graph.node for v in n.output}
    return node.input[1] in made and made[node.input[1]].op_type in ("Sqrt", "Neg")


def test_in_half_precision_statistics_and_gate_are_float32_and_no_float32_tensor_is_shared() -> None:
    deploy = deploy_of(reference_of(base()), CENTRED).float()
    cast_module(deploy, Precision.FP16)
    call = BlockCall(deploy)
    nodes, _ = emit_block(call.plan, "x", "y", call.plan.constants, PATH, (1, 8, 5, 7), HALF)
    reads = [n for n in nodes if "x" in n.input and belongs_to(n.name, f"{PATH}.sru")]
    # The gated tensor is read in half; statistics and gate convert x and -x, each for itself.
    assert sorted(n.op_type for n in reads) == ["Cast", "Mul", "Mul", "Neg"]
    assert any(n.op_type == "GreaterOrEqual" or n.op_type == "Greater" for n in nodes)


def test_what_is_refused() -> None:
    def takes(spec: object, dtype: int = FLOAT, shape: tuple[int | str, ...] = (1, 8, 5, 7)) -> bool:
        return takes_centred(spec, CENTRED, dtype, shape)  # type: ignore[arg-type]

    assert takes(base().sru)
    assert takes(base().sru, shape=("n", 8, "h", "w"))
    assert not takes_centred(base().sru, GraphStyle(), FLOAT, (1, 8, 5, 7))  # type: ignore[arg-type]
    assert not takes(base().sru, HALF)
    assert not takes(flat_groups().sru)
    unbiased = sru(norm=Norm.GROUP_STD, groups=8).sru
    assert takes(unbiased)
    assert not takes(unbiased, shape=("n", 8, "h", 7))
    assert not takes(unbiased, shape=(1, 8, 1, 1))


# Broken twins of the graph itself.


def _nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [n for n in model.graph.node if n.op_type == kind and belongs_to(n.name, f"{PATH}.sru")]


def unnegated(model: onnx.ModelProto) -> None:
    _nodes(model, "Neg")[0].op_type = "Identity"


def uncentred(model: onnx.ModelProto) -> None:
    _nodes(model, "Sub")[0].op_type = "Add"


def no_root(model: onnx.ModelProto) -> None:
    _nodes(model, "Sqrt")[0].op_type = "Identity"


def means_forgotten(model: onnx.ModelProto) -> None:
    """By channel only: the variance between the channels' means is left out."""
    between = _nodes(model, "Add")[0]
    between.op_type = "Identity"
    del between.input[1]


@pytest.mark.parametrize(
    ("twin", "block"),
    [(t, b) for t in (unnegated, uncentred, no_root) for b in (0, emit_centred.ONE_BLOCK)]
    + [(means_forgotten, 0)],
)
def test_broken_twins_are_seen(
    twin: Callable[[onnx.ModelProto], None], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit_centred, "ONE_BLOCK", block)
    module = reference_of(sru(groups=2))
    model = model_of(deploy_of(module, CENTRED), 20, (2, 8, 5, 7))
    generator = torch.Generator().manual_seed(5)
    # Channels with means and deviations of their own: a standard normal input hides what is forgotten.
    x = 3 * torch.randn(2, 8, 5, 7, generator=generator) + 4 * torch.randn(1, 8, 1, 1, generator=generator)
    assert error_of(model, module, ((2, 5, 7),), x) <= TOLERANCE
    twin(model)
    assert error_of(model, module, ((2, 5, 7),), x) > BROKEN
