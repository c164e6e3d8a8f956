"""Names say the family, or what differs from the nearest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scconv_deploy.recognition.variants import describe, variant_name
from scconv_deploy.scconv.reference import FAMILIES, family_spec
from scconv_deploy.scconv.spec import Gate, Order, SCConvSpec


@pytest.mark.parametrize("family", FAMILIES)
def test_families_keep_their_name_at_any_size(family: str) -> None:
    assert variant_name(family_spec(family, 32)) == family
    assert variant_name(family_spec(family, 64, groups=2, alpha=0.25, gwc_kernel=5)) == family
    assert variant_name(replace(family_spec(family, 32), cru=None)) == f"{family} (SRU only)"


def test_differences_are_listed() -> None:
    spec = family_spec("F3", 16, threshold=0.4)
    assert variant_name(spec) == "custom (F3 with threshold 0.4)"
    assert (
        variant_name(replace(family_spec("F2", 16), order=Order.CRU_SRU)) == "custom (F2 with CRU before SRU)"
    )
    assert variant_name(SCConvSpec(None, spec.cru)) == "CRU only"
    assert spec.sru is not None
    hard = replace(spec, sru=replace(spec.sru, gate=Gate.COMPLEMENT_SOFT))
    assert variant_name(hard) == "custom (F3 with complement_soft gate, threshold 0.4)"


def test_descriptions_show_every_gate_axis() -> None:
    text = describe(family_spec("F1", 16))
    assert "group_std(16, eps=1e-10)" in text
    assert "hard gate >= 0.5" in text
    assert text.index("SRU[") < text.index("CRU[")
