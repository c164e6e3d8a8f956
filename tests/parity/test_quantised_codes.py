"""The artifact's codes against the graph's own arithmetic on the same codes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from scconv_deploy.config import Precision
from scconv_deploy.graph.quantised import read_parts
from scconv_deploy.graph.units import find_units
from scconv_deploy.parity import quantised_codes
from scconv_deploy.parity.quantised_codes import compare_codes, saturated_share
from scconv_deploy.runtime.onnx import OnnxRunner
from tests.parity.nets import BLOCKS, ready
from tests.quantise.graphs import FORMS, images, scconv, store, stored


def _masks() -> list[str]:
    model = onnx.shape_inference.infer_shapes(ready(Precision.FP32).graph.model, data_prop=True)
    gates = [find_units(model, path).gate for path in BLOCKS]
    return [g.mask for g in gates if g is not None]


@pytest.mark.parametrize("form", FORMS)
def test_integer_kernels_and_the_graph_agree_code_by_code(form: str) -> None:
    model = scconv(form).model
    codes, masks, ends = compare_codes(model, read_parts(model), _masks(), images(4))
    assert len(codes) == len(read_parts(model).values)
    assert len(masks) == 3
    assert sum(c.off for c in codes) == 0
    assert sum(c.off_by_one for c in codes) <= 0.001 * sum(c.elements for c in codes)
    assert sum(m.off for m in masks) == 0
    assert all(e.error <= 1e-4 * e.scale for e in ends)


def test_an_artifact_that_computes_one_convolution_otherwise_is_found_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ONNX Runtime is given another weight than the graph that is interpreted has."""
    model = scconv("integer").model
    conv = next(n for n in model.graph.node if n.name.startswith("soft.0.cru") and n.op_type == "Conv")
    name = str(conv.input[1]).replace("_dequantised", "_quantised")

    class Broken(OnnxRunner):
        def __init__(self, data: bytes, optimise: bool = True) -> None:
            other = onnx.load_model_from_string(data)
            store(other, name, np.roll(stored(other, name), 1, axis=0))
            super().__init__(other.SerializeToString(), optimise=optimise)

    monkeypatch.setattr(quantised_codes, "OnnxRunner", Broken)
    codes, _, _ = compare_codes(model, read_parts(model), _masks(), images(4))
    wrong = [c.value.source for c in codes if c.off > 0.01 * c.elements]
    assert wrong
    assert all(source.startswith("soft.0.cru") for source in wrong)


def test_a_gate_that_decides_otherwise_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = scconv("integer").model

    class Broken(OnnxRunner):
        def __init__(self, data: bytes, optimise: bool = True) -> None:
            other = onnx.load_model_from_string(data)
            node = next(
                n for n in other.graph.node if n.name.startswith("hard.0.sru") and n.op_type == "Greater"
            )
            node.op_type = "Less"
            super().__init__(other.SerializeToString(), optimise=optimise)

    monkeypatch.setattr(quantised_codes, "OnnxRunner", Broken)
    _, masks, _ = compare_codes(model, read_parts(model), _masks(), images(4))
    assert masks[0].off > 0.9 * masks[0].gates
    assert masks[1].off == masks[2].off == 0


@pytest.mark.parametrize("form", FORMS)
def test_saturation_is_the_share_beyond_the_last_code(form: str) -> None:
    value = next(v for v in read_parts(scconv(form).model).values.values() if v.source == "image")
    inside = images(8)["image"]
    assert saturated_share(value, inside) == 0.0
    assert saturated_share(value, np.where(np.arange(8)[:, None, None, None] == 0, 1e3, inside)) == 0.125
    assert saturated_share(value, np.full((2, 2), np.nan)) == 1.0


def test_float8_codes_are_neighbours_in_the_order_of_their_values() -> None:
    values = torch.tensor([-448.0, -416.0, -0.001953125, 0.0, 0.001953125, 416.0, 448.0]).to(
        torch.float8_e4m3fn
    )
    steps = quantised_codes._ordinal(values).tolist()
    assert steps == sorted(steps)
    assert steps[1] - steps[0] == steps[3] - steps[2] == steps[4] - steps[3] == 1
