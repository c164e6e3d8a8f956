"""Probes: reproducible, and each holds what its name says."""

from __future__ import annotations

import pytest
import torch

from scconv_deploy.recognition.probe import Draft, GammaStyle, general_probes, open_probe, with_sum
from scconv_deploy.scconv.constants import gamma_weight
from scconv_deploy.scconv.reference import family_spec
from scconv_deploy.scconv.spec import GammaWeight

C = 16
SHAPES = {"g": (C,), "b": (C,), "k": (4, 8, 1, 1), "kb": (4,)}
DRAFT = Draft(SHAPES, "g", "b", 7, (1e-5,))


def test_the_same_seed_gives_the_same_probes_and_another_seed_others() -> None:
    one, two, other = (
        general_probes(Draft(SHAPES, "g", "b", seed, (1e-5,)), C, ((3, 5), (4, 6))) for seed in (7, 7, 8)
    )
    for a, b, c in zip(one, two, other, strict=True):
        assert a.name == b.name == c.name
        assert torch.equal(a.x, b.x)
        assert not torch.equal(a.x, c.x)
        if a.theirs is not None and b.theirs is not None:
            assert all(torch.equal(a.theirs[n], b.theirs[n]) for n in SHAPES)


def test_probes_hold_what_their_names_say() -> None:
    found = {p.name: p for p in general_probes(DRAFT, C, ((3, 5), (4, 6)))}
    assert len(found) == 10
    assert found["stored weights"].theirs is None
    negative, positive = found["negative sum of gamma"].theirs, found["positive sum of gamma"].theirs
    assert negative is not None
    assert positive is not None
    assert negative["g"].sum() < -1.0
    assert positive["g"].sum() > 1.0
    assert {p.x.dtype for p in found.values()} == {torch.float64}
    assert found["dark image"].x.max() < 0.0
    assert found["bright image"].x.mean() > 6.0
    assert found["faint image"].x.abs().max() < 0.01
    assert {p.x.shape[2:] for p in found.values()} == {(3, 5), (4, 6)}
    small = found["sum of gamma -5.0e-06"].theirs
    assert small is not None
    assert float(small["g"].sum()) == pytest.approx(-5e-6, rel=1e-6)


def test_every_input_holds_both_signs_of_the_deviation_from_its_mean() -> None:
    """Otherwise a gate would be open everywhere, and nothing of it would show."""
    for probe in general_probes(DRAFT, C, ((3, 5), (4, 6))):
        centred = probe.x - probe.x.mean((2, 3), keepdim=True)
        assert 0.3 < float((centred > 0).double().mean()) < 0.7


@pytest.mark.parametrize("kind", GammaWeight)
def test_the_open_probe_opens_every_gate(kind: GammaWeight) -> None:
    spec = family_spec("F3", C).sru
    assert spec is not None
    draft = DRAFT
    if kind is GammaWeight.STORED:
        draft = Draft({**SHAPES, "w": (C, 1, 1)}, "g", "b", 7, (1e-5,), weight="w")
    weights = open_probe(draft, (2, C, 4, 4)).theirs
    assert weights is not None
    made = type(spec)(C, spec.norm, 4, 1e-5, kind, spec.gate, spec.comparison, 0.5)
    w = gamma_weight(weights["g"], made, draft.stored(weights))
    normalised = torch.full((C,), -4.0, dtype=torch.float64)  # the lowest of 16 * 4 * 4 normal values, about
    assert float((w * (weights["g"] * normalised + weights["b"])).min()) > 36.0  # sigmoid(36) is 1 - 2e-16


def test_with_sum_keeps_signs() -> None:
    gamma = DRAFT.weights("x", GammaStyle.NEGATIVE_SUM)["g"]
    scaled = with_sum(gamma, -1e-5)
    assert torch.equal(scaled.sign(), gamma.sign())
    assert float(scaled.sum()) == pytest.approx(-1e-5)
