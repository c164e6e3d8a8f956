"""Reading Q/DQ out of a graph."""

from __future__ import annotations

import numpy as np
import pytest

from scconv_deploy.graph.precision import block_types
from scconv_deploy.graph.quantised import code_kinds, is_quantised, read_parts
from tests.parity.nets import BLOCKS
from tests.quantise.graphs import FORMS, copied, quantised, residual, scconv, stored


@pytest.mark.parametrize("form", FORMS)
def test_every_pair_and_constant_is_found(form: str) -> None:
    graph = quantised(residual(), FORMS[form])
    parts = read_parts(graph.model)
    assert is_quantised(graph.model)
    assert not is_quantised(residual().model)
    assert {v.source for v in parts.values.values()} >= {"image", "pool", "mean"}
    assert parts.sources["image_dequantised"] == "image"
    weight = parts.constants["w1_dequantised"]
    assert weight.axis == 0
    step = np.abs(stored(residual().model, "w1")).max() / (8 if form == "float8" else 200)
    assert np.abs(weight.values() - stored(residual().model, "w1")).max() < step


def test_scales_that_do_not_fit_their_axis_are_a_value_error() -> None:
    weight = read_parts(quantised(residual(), FORMS["symmetric"]).model).constants["w1_dequantised"]
    object.__setattr__(weight, "axis", 1)
    with pytest.raises(ValueError, match="8 scales on axis 1"):
        weight.values()


def test_codes_that_nothing_made_and_computed_scales_are_refused() -> None:
    model = copied(quantised(residual(), FORMS["symmetric"]).model)
    node = next(n for n in model.graph.node if n.name.endswith("DequantizeLinear_q1"))
    node.input[0] = "sumr"
    with pytest.raises(ValueError, match="dequantises 'sumr', which nothing quantised"):
        read_parts(model)
    node.input[0], node.input[1] = "image_quantised", "sum"
    with pytest.raises(ValueError, match="not a constant"):
        read_parts(model)


@pytest.mark.parametrize(("form", "kind"), [("integer", "int8"), ("symmetric", "int8"), ("float8", "fp8")])
def test_convolutions_of_blocks_are_codes_and_gate_and_fuse_are_not(form: str, kind: str) -> None:
    model = scconv(form).model
    for roles in block_types(model, BLOCKS).values():
        assert roles == {"convolutions": kind, "gate": "fp32", "fuse": "fp32"}
    assert set(code_kinds(model).values()) == {kind}


def test_one_convolution_that_reads_floats_makes_its_block_wide() -> None:
    model = copied(scconv("symmetric").model)
    node = next(n for n in model.graph.node if n.name.startswith("hard.0.cru") and n.op_type == "Conv")
    node.input[0] = read_parts(model).sources[node.input[0]]
    assert block_types(model, BLOCKS)["hard.0"]["convolutions"] == "fp32"
