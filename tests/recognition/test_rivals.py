"""Every legal one-axis neighbour, once each, and none that equals the specification."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from scconv_deploy.recognition.rivals import rivals
from scconv_deploy.scconv.reference import family_spec
from scconv_deploy.scconv.spec import CRUSpec, Gate, SCConvSpec, SRUSpec
from tests.scconv.axes import specifications

ALL = specifications()


def differing(one: SRUSpec | CRUSpec | None, other: SRUSpec | CRUSpec | None) -> set[str]:
    if one is None or other is None:
        return set()
    return {f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)}


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
def test_each_rival_is_one_axis_away_and_another(spec: SCConvSpec) -> None:
    found = list(rivals(spec))
    assert spec not in found
    for rival in found:
        changed = differing(spec.sru, rival.sru) | differing(spec.cru, rival.cru)
        changed -= {"weight_eps", "weight_clamp"} if "gamma_weight" in changed else set()
        changed |= {"order"} if spec.order is not rival.order else set()
        assert len(changed) == 1, changed


def test_no_axis_of_the_sru_is_forgotten() -> None:
    spec = family_spec("F3", 16)
    moved = set().union(*(differing(spec.sru, r.sru) for r in rivals(spec)))
    assert moved == {f.name for f in fields(SRUSpec)} - {"channels"}
    moved = set().union(*(differing(spec.cru, r.cru) for r in rivals(spec)))
    assert {"fuse", "y2_order"} <= moved
    assert spec.sru is not None
    gates = {r.sru.gate for r in rivals(spec) if r.sru}
    assert gates == set(Gate)


def test_units_that_are_not_there_have_no_rivals() -> None:
    spec = family_spec("F1", 16)
    assert all(r.sru is None for r in rivals(replace(spec, sru=None)))
    assert all(r.cru is None for r in rivals(replace(spec, cru=None)))
