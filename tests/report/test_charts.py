from __future__ import annotations

import math
from itertools import pairwise

import pytest

from scconv_deploy.report.charts import Scale, histogram, scale, share, tallest
from scconv_deploy.report.manifest import as_section
from scconv_deploy.report.to_json import to_json
from scconv_deploy.verdicts import MarginBin
from tests.report.half_example import gate


def test_equal_factors_are_equal_steps() -> None:
    axis = scale([1e-6, 1e-2])
    assert axis is not None
    places = [axis.percent(10.0**e) or 0.0 for e in range(-6, -1)]
    steps = [b - a for a, b in pairwise(places)]
    assert max(steps) - min(steps) < 0.1 + places[0]
    assert places[-1] == pytest.approx(next(t.percent for t in axis.ticks if t.exponent == -2))


def test_what_is_not_finite_fills_the_plot_and_zero_is_empty() -> None:
    axis = Scale(-6, 0)
    assert axis.percent(math.nan) == axis.percent(math.inf) == 100.0
    assert axis.percent(0.0) == 0.0
    assert axis.percent(None) is None
    assert 0 < (axis.percent(1e-30) or 0.0) < 2


def test_an_axis_holds_its_values_and_stays_readable() -> None:
    assert scale([None, 0.0, math.nan, -1.0]) is None
    axis = scale([3e-30, 0.5])
    assert axis is not None
    assert (axis.low, axis.high) == (-10, 0)
    assert len([t for t in axis.ticks if t.labelled]) <= 7
    single = scale([1.0])
    assert single is not None
    assert single.low < single.high


def test_share_starts_at_zero() -> None:
    assert (share(5, 10), share(0, 10), share(None, 10), share(math.nan, 10), share(3, 0)) == (50, 0, 0, 0, 0)


def test_one_flip_among_a_million_gates_is_visible_and_none_is_not() -> None:
    bins = (MarginBin(1e-4, 1_000_000, 1), MarginBin(1e-2, 1_000_000, 0), MarginBin(math.inf, 0, 0))
    section = as_section({"histogram": to_json(bins), "band": 1e-3})
    drawn = histogram("b", section, tallest([section]))
    assert drawn.columns[0].gates_percent == 100.0
    assert drawn.columns[0].flips_percent > 4
    assert drawn.columns[1].flips_percent == 0.0
    assert drawn.band_column == pytest.approx(1.5)  # halfway between 1e-4 and 1e-2, on the logarithmic axis


def test_a_histogram_without_numbers_is_empty() -> None:
    drawn = histogram("b", as_section({"histogram": [{}, {"below": "nan", "gates": "x"}]}), 0)
    assert [c.gates_percent for c in drawn.columns] == [0.0, 0.0]
    assert drawn.band_column is None


def test_the_last_bound_is_not_written() -> None:
    section = as_section(to_json(gate()))
    columns = histogram("b", section, 10).columns
    assert 2 <= sum(c.labelled for c in columns) <= 5
    assert not columns[-1].labelled
