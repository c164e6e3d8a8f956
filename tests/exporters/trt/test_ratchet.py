"""Kernels and bytes of SCConv-ResNet-50 must not grow: pinned per version of the library, which decides them.

Figures are those of ``tests/bench/results/kernels.json`` (batch 1, 224x224, SM89; built, not executed). A change for
the better fails, too: pin the better figures and write them into ``exporters/trt/forms.py``. Another version of the
library is skipped with its reason; measure and pin it when it is adopted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporters.trt.forms import graph_style
from scconv_deploy.artifacts import BuiltArtifact
from scconv_deploy.config import Precision
from scconv_deploy.scconv.style import GraphStyle
from tests.bench.kernels import configuration, engine, scconv_resnet50
from tests.exporters.trt.models import rtx

VERSION = "1.7.1"
KERNELS = {Precision.FP32: 180, Precision.FP16: 163, Precision.BF16: 166}
MEGABYTES = {Precision.FP32: 240.9, Precision.FP16: 126.8, Precision.BF16: 137.1}
TRANSPOSES = {Precision.FP32: 2, Precision.FP16: 0, Precision.BF16: 0}
"""In float32 the input and the tensor behind the last convolution; plain ResNet-50 has the same two."""
BLOCKS = 16
TARGETS = {Precision.FP32: (205, 255.0), Precision.FP16: (200, 135.0)}
"""Of the requirement: at most so many kernels and megabytes."""


def _pinned_version() -> None:
    version = str(rtx().__version__)
    if not version.startswith(VERSION):
        pytest.skip(f"figures are pinned for TensorRT for RTX {VERSION}, and {version} is installed")


def _built(precision: Precision, style: GraphStyle | None = None) -> BuiltArtifact:
    return engine(scconv_resnet50(), precision, style or graph_style(configuration(precision)))


def _megabytes(built: BuiltArtifact) -> float:
    assert built.kernel_report is not None
    return round(built.kernel_report.bytes_moved / 1e6, 1)


@pytest.mark.slow
@pytest.mark.parametrize("precision", KERNELS)
def test_the_default_form(precision: Precision) -> None:
    _pinned_version()
    built = _built(precision)
    report = built.kernel_report
    assert report is not None
    assert (report.kernels, _megabytes(built)) == (KERNELS[precision], MEGABYTES[precision])
    assert report.layout_transposes == TRANSPOSES[precision]
    if precision in TARGETS:
        most_kernels, most_bytes = TARGETS[precision]
        assert report.kernels <= most_kernels
        assert _megabytes(built) <= most_bytes
    half = precision.value
    wanted = {"convolutions": half, "gate": "fp32", "fuse": "fp32"}
    assert list(built.precision_per_block.values()) == [wanted] * BLOCKS
    assert sum(cost.kernels for cost in report.modules.values()) == report.kernels
    assert sum(cost.bytes_moved for cost in report.modules.values()) == report.bytes_moved
    assert report.roofline is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        {"centred_norm": False},
        {"cru_convolutions": 5},
    ],
)
def test_without_one_of_its_forms_the_ratchet_breaks(broken: dict[str, bool | int]) -> None:
    """The broken twin: each form is worth kernels, so that losing one cannot go unnoticed."""
    _pinned_version()
    precision = Precision.FP16
    style = replace(graph_style(configuration(precision)), **broken)  # type: ignore[arg-type]
    report = _built(precision, style).kernel_report
    assert report is not None
    assert report.kernels > KERNELS[precision]
