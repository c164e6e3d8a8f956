"""Candidates become models that compute the same, equal ones once; a broken candidate is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from exporters.onnx_model import OnnxExporter
from scconv_deploy.config import ExportConfig
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.scconv.reference import family_spec
from scconv_deploy.scconv.spec import Gate, SCConvSpec
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tuning.forms import INPUT, PATH, different_forms
from tests.scconv.axes import base, cru, sru, uneven_cru
from tests.scconv.test_emit import session

CONFIG = ExportConfig(target="onnx")
RULE = OnnxExporter().style(CONFIG)
EVERY = {"rule": RULE, **OnnxExporter().candidate_styles(CONFIG)}
WIDE = family_spec("F3", 64)


def outputs(models: dict[str, onnx.ModelProto], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    return {name: session(model).run(None, {INPUT: x})[0] for name, model in models.items()}


@pytest.mark.parametrize(
    "spec",
    [WIDE, base(), sru(gate=Gate.HARD), SCConvSpec(base().sru, uneven_cru()), SCConvSpec(base().sru, None)],
)
def test_all_forms_compute_the_same(spec: SCConvSpec) -> None:
    shape = (2, spec.c_in, 6, 5)
    models = different_forms(spec, shape, EVERY, seed=3)
    made = outputs(models, shape)
    for name, value in made.items():
        np.testing.assert_allclose(
            value, made["rule"], atol=1e-4 * np.abs(made["rule"]).max(), rtol=0, err_msg=name
        )
    for model in models.values():
        onnx.checker.check_model(model, full_check=True)


def test_a_broken_form_differs() -> None:
    shape = (2, 64, 6, 5)
    models = different_forms(WIDE, shape, EVERY, seed=3)
    node = next(n for n in models["rule"].graph.node if belongs_to(n.name, f"{PATH}.cru.y1"))
    del node.input[2]
    made = outputs(models, shape)
    assert np.abs(made["rule"] - made["grouped Y1"]).max() > 1e-2 * np.abs(made["grouped Y1"]).max()


def test_the_forms_of_a_soft_gate_below_a_block() -> None:
    """8 channels per group: the rule is the dense form already."""
    names = {"rule", "grouped Y1", "separate branches", "grouped Y1, separate branches", "three convolutions"}
    assert set(different_forms(WIDE, (1, 64, 8, 8), EVERY, 0)) == names


def test_the_forms_from_a_block_on() -> None:
    found = different_forms(family_spec("F3", 256), (1, 256, 8, 8), EVERY, 0)
    assert "dense Y1" in found
    assert "grouped Y1" not in found


def test_equal_forms_are_timed_once() -> None:
    hard = sru(gate=Gate.HARD)
    assert "separate branches" not in different_forms(hard, (1, 8, 8, 8), EVERY, 0)
    alone = SCConvSpec(replace(hard.sru) if hard.sru else None, None)
    assert list(different_forms(alone, (1, 8, 8, 8), EVERY, 0)) == ["rule"]
    same = {"rule": RULE, "again": replace(RULE), "other": GraphStyle(merged_y2=False)}
    assert list(different_forms(cru(), (1, 8, 8, 8), same, 0)) == ["rule", "other"]


def test_the_block_stands_between_convolutions() -> None:
    nodes = different_forms(WIDE, (1, 64, 8, 8), EVERY, 0)["rule"].graph.node
    assert [n.name for n in (*nodes[:2], *nodes[-2:])] == [
        "before/Conv",
        "before/Relu",
        "after/Conv",
        "after/Relu",
    ]
