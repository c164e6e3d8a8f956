"""Which graph form a configuration gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporters.trt.forms import SMALL_BATCH, graph_style
from scconv_deploy.config import ExportConfig, Precision, ShapeRange

CONFIG = ExportConfig("trt-rtx")


def _range(optimum: int) -> ShapeRange:
    return ShapeRange("x", (1, 3, 8, 8), (optimum, 3, 8, 8), (64, 3, 8, 8))


@pytest.mark.parametrize(
    ("precision", "batches", "convolutions"),
    [
        (Precision.FP32, (1,), 3),
        (Precision.FP16, (), 2),
        (Precision.FP16, (1,), 2),
        (Precision.BF16, (SMALL_BATCH,), 2),
        (Precision.INT8, (1,), 2),
        (Precision.FP16, (SMALL_BATCH + 1,), 3),
        (Precision.FP16, (1, 32), 3),
    ],
)
def test_few_convolutions_where_launches_weigh_most(
    precision: Precision, batches: tuple[int, ...], convolutions: int
) -> None:
    config = replace(CONFIG, opset=22, precision=precision, shapes=tuple(_range(b) for b in batches))
    style = graph_style(config)
    assert (style.cru_convolutions, style.centred_norm, style.gate_in_half) == (convolutions, True, False)


def test_every_profile_counts() -> None:
    config = replace(CONFIG, precision=Precision.FP16, profiles=((_range(1),), (_range(32),)))
    assert graph_style(config).cru_convolutions == 3
