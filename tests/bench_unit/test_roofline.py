"""The probe gives sane numbers; how fast this machine is, is nobody's test."""

from __future__ import annotations

import math

from scconv_deploy.bench.roofline import ceilings
from scconv_deploy.profiles import Ceilings


def test_both_ceilings_are_positive_and_finite() -> None:
    found = ceilings(1, seconds=0.0, array_mib=1, side=64, image=8)
    assert found.threads == 1
    assert all(math.isfinite(v) and v > 0 for v in (found.gflop_per_s, found.gb_per_s, found.ridge))


def test_the_ridge_is_where_the_roof_bends() -> None:
    assert Ceilings(1, 100.0, 8.0, "").ridge == 12.5
