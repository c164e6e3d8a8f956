"""The edge probes really lie at the threshold and on both sides of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scconv_deploy.recognition.edges import edge_probes, tied_logit
from scconv_deploy.recognition.probe import Draft
from scconv_deploy.scconv.constants import gamma_weight, gate_logit
from scconv_deploy.scconv.deploy_sru import DeploySRU
from scconv_deploy.scconv.reference import family_spec
from scconv_deploy.scconv.spec import GammaWeight, SCConvSpec, SRUSpec
from scconv_deploy.scconv.style import GraphStyle

C = 8
ROLES = {"gamma": "g", "beta": "b"}
STORED_ROLES = {**ROLES, "weight": "w"}


def sru(family: str, threshold: float = 0.5) -> SRUSpec:
    found = family_spec(family, C, threshold=threshold).sru
    assert found is not None
    return found


def logits(spec: SRUSpec, name: str) -> tuple[torch.Tensor, float]:
    draft, roles = Draft({"g": (C,), "b": (C, 1, 1)}, "g", "b", 0), ROLES
    if spec.gamma_weight is GammaWeight.STORED:
        shapes = {"g": (C,), "b": (C, 1, 1), "w": (1, C, 1, 1)}
        draft, roles = Draft(shapes, "g", "b", 0, weight="w"), STORED_ROLES
    probe = next(p for p in edge_probes(draft, SCConvSpec(spec, None), roles, (2, C, 4, 4)) if p.name == name)
    assert probe.ours is not None
    unit = DeploySRU(spec, {role: probe.ours[n] for role, n in roles.items()}, GraphStyle())
    logit = gate_logit(spec.threshold)
    assert not isinstance(logit, bool)
    return unit.logits(probe.x)[0], logit


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("family", ["F1", "F2", "F3", "F3 stored"])
@pytest.mark.parametrize("name", ["edge, both sides", "edge at the scale of eps"])
def test_gates_on_both_sides(family: str, threshold: float, name: str) -> None:
    spec = sru(family.removesuffix(" stored"), threshold)
    if family.endswith("stored"):
        spec = replace(spec, gamma_weight=GammaWeight.STORED)
    s, logit = logits(spec, name)
    off = (s[0] - logit).flatten(1)
    nearest = off.gather(1, off.abs().argmin(1, keepdim=True))[:, 0]
    assert (nearest > 0).any()
    assert (nearest < 0).any()
    assert nearest.abs().max() < 1e-6


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.6, 0.51])
@pytest.mark.parametrize("kind", GammaWeight)
def test_gates_exactly_at_the_threshold(kind: GammaWeight, threshold: float) -> None:
    spec = replace(sru("F3", threshold), gamma_weight=kind)
    s, logit = logits(spec, "tie at the threshold")
    assert ((s == logit).sum() >= 2 * 4 * 4).item()


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.6, 0.51, 0.25])
def test_tied_logits_hit_the_threshold(threshold: float) -> None:
    s = tied_logit(threshold)
    assert s is not None
    assert torch.sigmoid(torch.tensor(s, dtype=torch.float64)) == threshold


def test_static_masks_get_weights_at_the_threshold() -> None:
    spec = sru("F0")
    draft = Draft({"g": (C,), "b": (C,)}, "g", "b", 0)
    probes = edge_probes(draft, SCConvSpec(spec, None), ROLES, (2, C, 4, 4))
    weights = [float(gamma_weight(p.ours["g"], spec)[0]) for p in probes if p.edge and p.ours]
    assert any(w == 0.5 for w in weights)
    assert any(0.5 < w < 0.5 + 1e-8 for w in weights)
    assert any(0.5 - 1e-8 < w < 0.5 for w in weights)
