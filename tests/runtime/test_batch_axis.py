"""The batch axis, told from the manifest alone."""

from __future__ import annotations

from typing import Any

import pytest

from scconv_deploy.runtime.batch_axis import counts_samples


@pytest.mark.parametrize(
    ("inputs", "outputs", "counts"),
    [
        ([["n", 3]], [["n"]], True),
        ([["n", 3], ["n"]], [["n"]], True),
        ([["n", 3], ["m"]], [["n"]], False),
        ([["n", 3]], [[3]], False),
        ([[1, 3]], [[1]], False),
        ([["n", 3]], [["n"], []], False),
    ],
)
def test_axis_0_counts_samples_only_where_it_is_the_same_everywhere(
    inputs: list[list[Any]], outputs: list[list[Any]], counts: bool
) -> None:
    manifest = {"inputs": [{"shape": s} for s in inputs], "outputs": [{"shape": s} for s in outputs]}
    assert counts_samples(manifest) == counts
