"""The merged CRU, run by ONNX Runtime in fp32, computes the reference in float64; twins do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.scconv.emit_merged import takes_merged
from scconv_deploy.scconv.spec import Fuse
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.axes import SHAPES, base, cru
from tests.scconv.test_deploy import reference_of
from tests.scconv.test_emit import (
    BROKEN,
    PATH,
    SPECIFICATIONS,
    TOLERANCE,
    deploy_of,
    error_of,
    model_of,
    session,
)

STYLES = [GraphStyle(where_mask=True, merged_y2=False, cru_convolutions=n) for n in (3, 2)]
WITH_CRU = [name for name, spec in SPECIFICATIONS.items() if spec.cru is not None]


@pytest.mark.parametrize("name", WITH_CRU)
def test_every_axis_value(name: str) -> None:
    spec = SPECIFICATIONS[name]
    module = reference_of(spec)
    for style in STYLES:
        model = model_of(deploy_of(module, style), 20, ("n", spec.c_in, "h", "w"))
        assert error_of(model, module, SHAPES) <= TOLERANCE, f"{name}, {style}"


@pytest.mark.parametrize(("style", "kernels"), [(STYLES[0], 3), (STYLES[1], 2)])
def test_as_few_convolutions_as_asked(style: GraphStyle, kernels: int) -> None:
    model = model_of(deploy_of(reference_of(base()), style), 20, (1, 8, 5, 7))
    assert sum(n.op_type == "Conv" for n in model.graph.node) == kernels


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fuse", Fuse)
def test_a_folded_batch_norm(style: GraphStyle, fuse: Fuse) -> None:
    module = reference_of(cru(fuse=fuse))
    scale, shift = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    deploy = deploy_of(module, style)
    assert deploy.cru is not None
    deploy.cru.fold_batch_norm(scale, shift)
    x = torch.randn(2, 8, 5, 7)
    with torch.no_grad():
        want = module(x.double()) * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    (got,) = session(model_of(deploy, 20, ("n", 8, "h", "w"))).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(got, want.numpy(), atol=1e-4, rtol=0)


def test_a_cru_that_cannot_be_merged_is_still_pooled_at_once() -> None:
    spec = base()
    assert spec.cru is not None
    gwc = replace(spec.cru.gwc, padding=(1, 1), kernel=(2, 2), dilation=(2, 2))  # no tap on PWC1's position
    spec = replace(spec, cru=replace(spec.cru, gwc=gwc))
    assert spec.cru is not None
    module = reference_of(spec)
    model = model_of(deploy_of(module, STYLES[1]), 20, (2, 8, 5, 7))
    kinds = [n.op_type for n in model.graph.node if belongs_to(n.name, f"{PATH}.cru")]
    assert (kinds.count("Conv"), kinds.count("ReduceMean")) == (5, 1)
    assert error_of(model, module, ((2, 5, 7),)) <= TOLERANCE
    stored_as_one = GraphStyle(cru_convolutions=2)
    assert not takes_merged(spec.cru, stored_as_one)
    model = model_of(deploy_of(module, stored_as_one), 20, (2, 8, 5, 7))
    assert error_of(model, module, ((2, 5, 7),)) <= TOLERANCE


# Broken twins of the graph itself.


def _nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [n for n in model.graph.node if n.op_type == kind and belongs_to(n.name, f"{PATH}.cru")]


def unnegated(model: onnx.ModelProto) -> None:
    _nodes(model, "Neg")[-1].op_type = "Identity"


def swapped_weights(model: onnx.ModelProto) -> None:
    first, second = _nodes(model, "Mul")
    first.input[1], second.input[1] = second.input[1], first.input[1]


def dropped_bias(model: onnx.ModelProto) -> None:
    (found,) = (n for n in _nodes(model, "Conv") if len(n.input) > 2)
    del found.input[2]


def subtracted(model: onnx.ModelProto) -> None:
    _nodes(model, "Add")[-1].op_type = "Sub"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("twin", [unnegated, swapped_weights, dropped_bias, subtracted])
def test_broken_twins_are_seen(twin: Callable[[onnx.ModelProto], None], style: GraphStyle) -> None:
    module = reference_of(base())
    model = model_of(deploy_of(module, style), 20, ("n", 8, "h", "w"))
    assert error_of(model, module, SHAPES) <= TOLERANCE
    twin(model)
    assert error_of(model, module, SHAPES) > BROKEN
