"""GWC and PWC1 as one dense convolution compute Y1, in torch and in ONNX Runtime; twins do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx
import pytest
import torch

from scconv_deploy.graph.names import belongs_to
from scconv_deploy.scconv import dense_y1 as form
from scconv_deploy.scconv.dense_y1 import dense_y1, dense_y1_weights, takes_dense_y1
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.deploy_cru import DeployCRU
from scconv_deploy.scconv.emit import can_emit
from scconv_deploy.scconv.reference import constants
from scconv_deploy.scconv.spec import ConvSpec, CRUSpec, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from tests.scconv.agreement import worst_error
from tests.scconv.axes import SHAPES, base, cru, gwc, specifications, uneven_cru
from tests.scconv.test_deploy import BROKEN, TOLERANCE, inputs_for, reference_of
from tests.scconv.test_emit import BROKEN as EMITTED_BROKEN
from tests.scconv.test_emit import TOLERANCE as EMITTED_TOLERANCE
from tests.scconv.test_emit import error_of, model_of

DENSE = GraphStyle(dense_y1_below=1000)
SPECIFICATIONS = {
    name: spec
    for name, spec in specifications().items()
    if spec.cru is not None and takes_dense_y1(spec.cru, DENSE)
}


def of(spec: SCConvSpec) -> DeploySCConv:
    return DeploySCConv(spec, constants(reference_of(spec)), DENSE).eval()


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_every_specification(name: str) -> None:
    spec = SPECIFICATIONS[name]
    module, deploy = reference_of(spec), of(spec)
    assert worst_error(module, deploy, inputs_for(spec)) <= TOLERANCE
    if can_emit(spec):
        assert error_of(model_of(deploy, 20, ("n", spec.c_in, "h", "w")), module, SHAPES) <= EMITTED_TOLERANCE


def test_the_axes_were_met() -> None:
    assert {"gwc kernel 1", "gwc kernel 5", "gwc dilated", "gwc without bias", "strided squeezes"} <= set(
        SPECIFICATIONS
    )
    assert any(name.startswith("uneven") for name in SPECIFICATIONS)


def test_one_convolution_and_no_add() -> None:
    before, after = (
        model_of(DeploySCConv(base(), constants(reference_of(base())), s), 20, ("n", 8, "h", "w")).graph.node
        for s in (GraphStyle(), DENSE)
    )
    assert [sum(n.op_type == "Conv" for n in nodes) for nodes in (before, after)] == [5, 4]


def test_the_rule_is_channels_per_group() -> None:
    wide = CRUSpec(
        64, 64, ConvSpec(64, 32), ConvSpec(64, 32), ConvSpec(32, 128, (3, 3), padding=(1, 1), groups=2),
        ConvSpec(32, 128), ConvSpec(32, 96),
    )  # fmt: skip
    assert takes_dense_y1(wide, GraphStyle(dense_y1_below=17))
    assert not takes_dense_y1(wide, GraphStyle(dense_y1_below=16))
    assert not takes_dense_y1(wide, GraphStyle())


def refused() -> dict[str, CRUSpec]:
    found = cru().cru
    assert found is not None
    plain = gwc(3).cru
    assert plain is not None
    return {
        "one group already": gwc(3, groups=1).cru or found,
        "another padding": replace(plain, gwc=replace(plain.gwc, padding_mode="replicate")),
        "pwc1 is strided": replace(plain, pwc1=replace(plain.pwc1, stride=(2, 2))),
        "pwc1 is wider": replace(plain, pwc1=replace(plain.pwc1, kernel=(3, 3), padding=(1, 1))),
        "no tap there": replace(plain, gwc=replace(plain.gwc, padding=(3, 3))),
        "between taps": replace(plain, gwc=replace(plain.gwc, padding=(1, 1), dilation=(2, 2))),
    }


@pytest.mark.parametrize("why", refused())
def test_refusals(why: str) -> None:
    spec = refused()[why]
    assert not takes_dense_y1(spec, DENSE)
    with pytest.raises(ValueError, match="no tap of this GWC"):
        dense_y1_weights(spec, {})


def test_biases_are_added() -> None:
    spec = uneven_cru()
    module = reference_of(SCConvSpec(None, spec))
    weights = constants(module)
    _, bias = dense_y1_weights(spec, weights)
    assert bias is not None
    assert torch.equal(bias, weights["gwc.bias"] + weights["pwc1.bias"])
    assert dense_y1(spec).bias


# Broken twins.


def kernel(block: DeploySCConv) -> torch.Tensor:
    assert isinstance(block.cru, DeployCRU)
    return block.cru.y1.weight


def pwc1(block: DeploySCConv) -> torch.Tensor:
    return constants(reference_of(block.spec))["pwc1.weight"][:, :, 0, 0]


def forgotten_pwc1(block: DeploySCConv) -> None:
    kernel(block)[:, :, 1, 1] -= pwc1(block)


def corner_tap(block: DeploySCConv) -> None:
    kernel(block)[:, :, 1, 1] -= pwc1(block)
    kernel(block)[:, :, 0, 0] += pwc1(block)


def other_group(block: DeploySCConv) -> None:
    kernel(block).copy_(kernel(block).flip(1))


@pytest.mark.parametrize("twin", [forgotten_pwc1, corner_tap, other_group])
def test_twins_are_seen(twin: Callable[[DeploySCConv], None]) -> None:
    block, module = of(base()), reference_of(base())
    assert worst_error(module, block, inputs_for(base())) <= TOLERANCE
    with torch.no_grad():
        twin(block)
    assert worst_error(module, block, inputs_for(base())) > BROKEN


def test_a_dropped_bias_is_seen_in_the_graph() -> None:
    module = reference_of(base())
    model = model_of(of(base()), 20, ("n", 8, "h", "w"))
    (node,) = (n for n in model.graph.node if belongs_to(n.name, "net.block.cru.y1"))
    assert isinstance(node, onnx.NodeProto)
    del node.input[2]
    assert error_of(model, module, SHAPES) > EMITTED_BROKEN


def test_the_block_is_that_of_the_widest_layout() -> None:
    assert form.BLOCK == 16
