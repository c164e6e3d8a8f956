"""Calibration samples to ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scconv_deploy.config import CalibMethod
from scconv_deploy.contracts import Silence
from scconv_deploy.errors import InputError
from scconv_deploy.quantise.ranges import collect
from tests.quantise.graphs import images, residual


def test_extremes_are_those_of_the_values() -> None:
    given = images(12)
    found, used = collect(residual(), ["image", "ar"], given, CalibMethod.MINMAX, Silence())
    assert used == 12
    assert found["image"] == (float(given["image"].min()), float(given["image"].max()))
    assert found["ar"][0] == 0.0


def test_one_far_value_does_not_widen_a_percentile() -> None:
    given = images(256)
    given["image"][5, 0, 0, 0] = 1000.0
    wide, _ = collect(residual(), ["image"], given, CalibMethod.MINMAX, Silence())
    cut, _ = collect(residual(), ["image"], given, CalibMethod.PERCENTILE, Silence())
    assert wide["image"][1] == 1000.0
    assert cut["image"][1] < 10.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_named(bad: float) -> None:
    given = images(4)
    given["image"][2, 1, 0, 0] = bad
    with pytest.raises(InputError, match=r"sample 2 of input 'image' holds NaN or infinity \(1 of 4"):
        collect(residual(), ["image"], given, CalibMethod.MINMAX, Silence())


def test_an_activation_that_overflows_is_named() -> None:
    with pytest.raises(InputError, match="'c' becomes NaN or infinite"):
        collect(residual(1e20), ["image", "c"], images(2), CalibMethod.MINMAX, Silence())


def test_a_graph_of_fixed_batch_gets_its_last_batch_filled() -> None:
    graph = residual()
    spec = replace(
        graph.inputs[0], shape=(4, 3, 8, 8), minimum=(4, 3, 8, 8), optimum=(4, 3, 8, 8), maximum=(4, 3, 8, 8)
    )
    given = images(6)
    found, used = collect(replace(graph, inputs=(spec,)), ["image"], given, CalibMethod.MINMAX, Silence())
    assert used == 6
    assert found["image"][1] == float(given["image"].max())
