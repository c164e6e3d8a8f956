"""The form from per-channel moments computes what the form over reshaped groups computes, in every variant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv import emit_moments
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.operator import BlockPlan
from scconv_deploy.scconv.reference import family_spec
from scconv_deploy.scconv.spec import Norm, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size

STYLE = GraphStyle(where_mask=True, channel_moments=True)
SHAPE = (2, 8, 5, 7)


def sru(groups: int, norm: Norm) -> SCConvSpec:
    spec = family_spec("F3", 8)
    assert spec.sru is not None
    unit = replace(spec.sru, groups=groups, norm=norm, eps=1e-5)
    return replace(spec, sru=unit, cru=None)


def written(spec: SCConvSpec, style: GraphStyle, free: bool) -> tuple[onnx.ModelProto, DeploySCConv]:
    generator = torch.Generator().manual_seed(3)
    weights = {role: torch.rand(8, generator=generator) + 0.5 for role in ("gamma", "beta")}
    module = DeploySCConv(spec, weights, GraphStyle()).eval()
    tensors = {name: t for name, t in module.state_dict().items() if t is not None}
    plan = BlockPlan(spec, style, tuple(tensors))
    shape: list[Size] = ["n", 8, "h", "w"] if free else list(SHAPE)
    nodes, constants = emit_block(plan, "x", "y", tuple(tensors), "block", shape, onnx.TensorProto.FLOAT)
    constants += [onnx.numpy_helper.from_array(t.numpy(), name) for name, t in tensors.items()]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model, module


def worst(spec: SCConvSpec, free: bool = False) -> float:
    model, module = written(spec, STYLE, free)
    assert "InstanceNormalization" not in {n.op_type for n in model.graph.node}
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        want = module.double()(x.double()).numpy()
    with OnnxRunner(model.SerializeToString(), threads=1) as runner:
        return float(np.abs(runner.run({"x": x.numpy()})["y"] - want).max())


@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("free", [False, True])
def test_it_is_the_same_function(norm: Norm, groups: int, free: bool) -> None:
    assert worst(sru(groups, norm), free) < 2e-6


def test_a_broken_twin_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean square in the place of the variance."""
    sigma = emit_moments._sigma
    monkeypatch.setattr(
        emit_moments,
        "_sigma",
        lambda w, spec, variance, count: sigma(w, spec, w.op("Add", (variance, w.scalar(0.25))), count),
    )
    assert worst(sru(4, Norm.GROUP_NORM)) > 1e-3


def test_groups_that_cut_a_channel_are_left_to_the_other_form() -> None:
    unit = sru(4, Norm.GROUP_STD).sru
    assert unit is not None
    assert emit_moments.takes_moments(unit, STYLE)
    assert not emit_moments.takes_moments(unit, GraphStyle())
    assert not emit_moments.takes_moments(replace(unit, groups=5), STYLE)
