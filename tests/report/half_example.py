"""A half-precision manifest with everything that gate-aware verification adds, for the tests of the reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from scconv_deploy.artifacts import Json, KernelReport
from scconv_deploy.report.to_json import to_json
from scconv_deploy.verdicts import (
    Budget,
    GateCheck,
    MarginBin,
    ParityReport,
    PieceCheck,
    TaskMetric,
    UnitCheck,
    Verdict,
)
from tests.report.example import comparison, manifest, parity

EDGES = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, math.inf)


def gate(index: int = 0, flips: int = 9) -> GateCheck:
    """Counts of one block; ``flips`` of them lie in the band, one bin apart."""
    bins = tuple(
        MarginBin(edge, 5 * (index + 2) * 3**place, min(flips, 4 + index % 3) if place in (2, 3) else 0)
        for place, edge in enumerate(EDGES)
    )
    return GateCheck(
        arithmetic="torch float16, operator by operator",
        gates=sum(b.gates for b in bins),
        flips=sum(b.flips for b in bins),
        flips_outside_band=0,
        band=4.9e-4,
        farthest_flip=2.7e-4,
        histogram=bins,
        pytorch_flips=200 * (index + 1),
        error_off_flips=1.3e-3,
        error_forced=1.9e-3,
        limit=8.1e-3,
    )


def piece(path: str, index: int = 0, broken: bool = False) -> PieceCheck:
    """One block with both units; ``broken`` puts the fault into the SRU."""
    verdict = Verdict.FAIL if broken else Verdict.PASS
    error = 0.61 if broken else 2.4e-3 * (1 + index % 4)
    units = (
        UnitCheck("SRU", verdict, error, 9.3e-3, f"SRU: largest difference {error:.3g}, limit 0.0093"),
        UnitCheck("CRU", Verdict.PASS, 1.1e-3, 7.7e-3, "CRU: largest difference 0.0011, limit 0.0077"),
    )
    sentence = f"largest difference {error:.3g}, limit 0.021"
    watched = gate(index)
    if broken:
        watched = replace(watched, flips=watched.gates // 3, flips_outside_band=5150, farthest_flip=0.42)
    return PieceCheck(path, verdict, 5, 5 - 5 * broken, 0, error, 0.021, sentence, watched, units)


def half_parity(paths: tuple[str, ...], broken: int | None = None) -> ParityReport:
    """A float16 report with a check per path; ``broken`` is the index of the block at fault."""
    pieces = tuple(piece(p, i, i == broken) for i, p in enumerate(paths))
    outside = PieceCheck("the layers after the blocks", Verdict.PASS, 5, 5, 0, 6.2e-4, 0.017, "fine")
    bad = broken is not None
    where = f"{paths[broken]}.SRU" if broken is not None else None
    found = 0.3331 if bad else 1.7e-4
    report = parity()
    return replace(
        report,
        verdict=Verdict.FAIL if bad else Verdict.PASS,
        sentence=(
            f"the graph differs from PyTorch, first at {where}: a third of its gates decide otherwise, far "
            "outside what float16 rounding explains"
            if bad
            else "agrees with PyTorch in float16; flips lie inside the rounding band and within the budget"
        ),
        subject="model.onnx, operator by operator in torch float16 on CPU",
        comparisons=(comparison("real images", 0.013), comparison("random", 0.031)),
        against_float64=(comparison("real images", 0.012), comparison("random", 0.029)),
        reference_against_float64=(comparison("real images", 3.3e-6), comparison("random", 4.4e-6)),
        pytorch_same_precision=(comparison("real images", 0.37), comparison("random", 0.44)),
        pieces=(*pieces, outside),
        first_divergent_block=where,
        precision="fp16",
        budgets=(
            Budget(
                "flips outside the rounding band", 0.0, 5150.0 * bad, not bad, "far flips of the worst block"
            ),
            Budget("max-flip-rate", 1e-3, found, not bad, f"worst block flips {found:.3g} of its gates"),
            Budget("error off the flips", 8.1e-3, 1.3e-3, True, "worst block is off by 0.0013"),
        ),
        task=TaskMetric("top-1 accuracy", 0.9822, 0.9844, 450),
    )


def half_manifest(count: int = 16, broken: int | None = None) -> Mapping[str, Json]:
    """A manifest of ``count`` blocks in float16, as newer bundles have it."""
    data = dict(manifest())
    paths = tuple(f"layer{1 + i // 4}.{i % 4}.conv2" for i in range(count))
    recognition = data["recognition"]
    assert isinstance(recognition, dict)
    blocks = recognition["blocks"]
    assert isinstance(blocks, list)
    first = blocks[0]
    assert isinstance(first, dict)
    report = KernelReport(
        97,
        12_400_000,
        2,
        {"HALF": 90, "FLOAT": 7},
        {p: 5 + i % 3 for i, p in enumerate(paths)},
        types_per_block={p: {"HALF": 4, "FLOAT": 1} for p in paths},
    )
    names = ("name", "batch", "threads", "rounds", "median_ms", "mean_ms", "p90_ms", "p99_ms", "min_ms")
    ratios = ("ratio", "ratio_low", "ratio_high")
    timings = [
        dict(zip((*names, *ratios), row, strict=True))
        for row in (
            ("model.onnx", 8, 1, 20, 2.512, 2.634, 2.911, 3.417, 2.403, 0.71, 0.68, 0.75),
            ("PyTorch", 8, 1, 20, 3.538, 3.642, 3.913, 4.416, 3.405, 1.0, 1.0, 1.0),
        )
    ]
    built = {p: {"convolutions": "float16", "gate": "float32", "fuse": "float16"} for p in paths}
    return {
        **data,
        "gate": "exact",
        "precision": {"asked": "fp16", "built": "fp16", "io": "fp32", "blocks": to_json(built)},
        "recognition": {**recognition, "blocks": [{**first, "path": p, "spec": spec()} for p in paths]},
        "verification": to_json(half_parity(paths, broken)),
        "kernel_report": to_json(report),
        "timings": to_json(timings),
    }


def spec(channels: int = 64) -> dict[str, Json]:
    """A paper-form specification as JSON."""

    def conv(c_in: int, c_out: int, kernel: int = 1, groups: int = 1, bias: bool = False) -> dict[str, Json]:
        return {
            "c_in": c_in,
            "c_out": c_out,
            "kernel": [kernel, kernel],
            "stride": [1, 1],
            "padding": [kernel // 2, kernel // 2],
            "dilation": [1, 1],
            "groups": groups,
            "bias": bias,
            "padding_mode": "zeros",
        }

    half, squeezed = channels // 2, channels // 4
    return {
        "sru": {
            "channels": channels,
            "norm": "group_norm",
            "groups": 4,
            "eps": 1e-5,
            "gamma_weight": "sum",
            "gate": "hard",
            "comparison": "gt",
            "threshold": 0.5,
            "gated": "input",
            "reconstruct": "cross",
            "weight_eps": 0.0,
            "weight_clamp": None,
        },
        "cru": {
            "up": half,
            "low": half,
            "squeeze_up": conv(half, squeezed),
            "squeeze_low": conv(half, squeezed),
            "gwc": conv(squeezed, channels, 3, 2, True),
            "pwc1": conv(squeezed, channels),
            "pwc2": conv(squeezed, channels - squeezed),
            "y2_order": "pwc2_low",
            "fuse": "joint",
        },
        "order": "sru_cru",
    }
