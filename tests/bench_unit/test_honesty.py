"""Profiles whose table is known beforehand."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from scconv_deploy.bench.honesty import Side, attribute, honesty_table, locate
from scconv_deploy.measurements import Estimate
from scconv_deploy.profiles import OUTSIDE, UNATTRIBUTED, Bound, HonestyTable, Standing
from scconv_deploy.report.to_json import dumps
from tests.bench_unit.profiles import OURS, ROOF, SUBJECT, TWIN, side


def table(ours: Side = OURS, twin: Side | None = TWIN, timed: Estimate | None = None) -> HonestyTable:
    return honesty_table(SUBJECT, ours, twin, ROOF, 0, timed)


def test_every_microsecond_has_one_place_and_shares_sum_to_one() -> None:
    found = table()
    shares = [b.cost.share for b in found.blocks]
    assert shares == pytest.approx([100 / 300, 100 / 300])
    assert (found.outside.share, found.unattributed.share) == pytest.approx((50 / 300, 50 / 300))
    assert sum(shares) + found.outside.share + found.unattributed.share == pytest.approx(1.0)
    assert found.net.cost.time_ms.value == pytest.approx(0.3, rel=0.01)
    times = attribute(OURS, SUBJECT)
    assert set(times.by_place) == {*SUBJECT.paths, OUTSIDE, UNATTRIBUTED}
    np.testing.assert_allclose(sum(times.by_place.values()), times.total)


def test_units_and_what_stands_between_them() -> None:
    block = table().blocks[1]
    assert [u.name for u in block.units] == ["SRU", "CRU"]
    assert [u.share_of_block for u in block.units] == pytest.approx([0.40, 0.55])
    assert [u.share for u in block.units] == pytest.approx([40 / 300, 55 / 300])
    assert block.cost.mbytes == pytest.approx(0.36)
    assert block.plain == "3x3 convolution 16 -> 16"


def test_rates_intensity_and_bound() -> None:
    sru, cru = table().blocks[0].units
    # 2,000 operations and 300,000 bytes in 30 us; 4,000,000 operations and 50,000 bytes in 70 us.
    assert sru.gflop_per_s == pytest.approx(2e3 / 30e-6 / 1e9, rel=0.01)
    assert sru.gb_per_s == pytest.approx(10.0, rel=0.01)
    assert (sru.intensity, sru.gflops, sru.bound) == (2 / 300, 0.0, Bound.MEMORY)
    assert cru.gflop_per_s == pytest.approx(57.1, rel=0.01)
    assert (cru.gflops, cru.bound) == (0.004, Bound.COMPUTE)


def test_what_reaches_neither_ceiling_is_held_up_by_overhead() -> None:
    slow = side({"a.conv.sru/Mul_1": 3000.0}, {"a.conv.sru/Mul_1": OURS.cost.nodes["a.conv.sru/Mul_1"]})
    assert table(slow, None).blocks[0].units[0].bound is Bound.OVERHEAD


def test_verdicts_both_ways_follow_from_times_and_not_from_operations() -> None:
    found = table()
    first, second = found.blocks
    assert (first.standing, second.standing) == (Standing.SLOWER, Standing.FASTER)
    assert first.ratio is not None
    assert first.ratio.value == pytest.approx(100 / 80)
    assert first.sentence == (
        "slower: SRU is memory-bound and takes 30 % of the time; 1.25 times the plain convolution's"
    )
    assert second.sentence == "faster than the plain convolution here: 0.25 of its time"
    assert found.net.standing is Standing.FASTER
    # Ten times the operations do not change a verdict.
    more = {n: dataclasses.replace(w, macs=w.macs * 10) for n, w in OURS.cost.nodes.items()}
    again = table(dataclasses.replace(OURS, cost=dataclasses.replace(OURS.cost, nodes=more)))
    assert [b.standing for b in again.blocks] == [b.standing for b in found.blocks]


def test_the_timed_run_decides_about_the_network() -> None:
    found = table(timed=Estimate(1.5, 1.4, 1.6))
    assert found.net.standing is Standing.SLOWER
    assert found.net.sentence.startswith("slower: SRU is memory-bound and takes 23 % of the time")


def test_noise_wider_than_the_difference_gives_no_verdict() -> None:
    swing = np.where(np.arange(20) % 2, 0.5, 2.0)
    nodes = {n: us * swing for n, us in OURS.profile.nodes.items()}
    noisy = dataclasses.replace(OURS, profile=dataclasses.replace(OURS.profile, nodes=nodes))
    assert table(noisy).blocks[0].standing is Standing.LEVEL


def test_without_a_twin_nothing_is_compared() -> None:
    found = table(twin=None)
    assert {b.standing for b in (found.net, *found.blocks)} == {Standing.UNKNOWN}
    assert all(b.ratio is None and b.plain_ms is None for b in (found.net, *found.blocks))


def test_a_place_that_the_plain_network_does_not_have() -> None:
    only_stem = side({"stem/Conv_0": 50.0}, {})
    block = table(twin=only_stem).blocks[0]
    assert (block.ratio, block.standing) == (None, Standing.UNKNOWN)
    assert "nothing here" in block.sentence


def test_zero_times_give_no_nan_anywhere() -> None:
    still = side(dict.fromkeys(OURS.profile.nodes, 0.0), OURS.cost.nodes)
    found = table(still, still)
    text = dumps(found)
    assert "nan" not in text
    assert "inf" not in text.replace("information", "")
    numbers = json.loads(text)["net"]["cost"]
    assert (numbers["share"], numbers["gflop_per_s"], numbers["bound"]) == (0.0, None, None)
    assert all(math.isfinite(b.cost.share) for b in found.blocks)


def test_the_pooling_that_strides_a_block_counts_with_it() -> None:
    pooled = dataclasses.replace(SUBJECT, beside={"b.conv": ("b.pool",)})
    assert locate("b.pool/AveragePool_3", pooled) == "b.conv"
    assert locate("b.pool/AveragePool_3", SUBJECT) == OUTSIDE
    assert locate("b.pooling/Conv_3", pooled) == OUTSIDE
