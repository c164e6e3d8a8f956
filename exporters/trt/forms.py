"""A configuration -> the exact graph forms that TensorRT builds into the fewest kernels and bytes.

The zoo's SCConv-ResNet-50 (224x224, batch 1) through the whole pipeline, SM89, TensorRT-RTX 1.7.1, 2026-11-22; kernels
and MB moved, counted as :mod:`exporters.trt.report` says. ``python -m tests.bench.kernels`` measures it anew
(``tests/bench/results/kernels.json``).

==========================================================  ==========  ==========  ==========
form                                                        fp32        fp16        bf16
==========================================================  ==========  ==========  ==========
naive ``torch.onnx.export``                                 241, 293.1  240, 147.7  refused
before: InstanceNormalization, five convolutions            221, 260.6  227, 140.9  237, 155.9
the same with norm and gate in the 16-bit type                          220, 131.8  224, 139.7
centred moments, three convolutions                         180, 240.9  179, 120.7  182, 131.0
centred moments, two convolutions                           164, 253.1  163, 126.8  166, 137.1
plain ResNet-50                                             58, 217.6   57, 109.0   58, 113.8
==========================================================  ==========  ==========  ==========

The gate stays a float32 island (it flips no gate; DECISIONS.md), which now costs no float32 tensor in memory. Two
convolutions are taken in 16 and 8 bits at small batches, where an engine waits for launches: 16 kernels fewer for
6 MB and 0.8 GFLOP more. In float32 without TF32 the multiply-adds weigh as much as the launches, and at larger
batches more, so three are taken there. ``where_mask`` changes no number; ``Where`` needs fewer operations.
No engine was run: what is said of time is unproved.
"""

from __future__ import annotations

from scconv_deploy.config import ExportConfig, Form, Precision
from scconv_deploy.scconv.merged import THREE, TWO
from scconv_deploy.scconv.style import GraphStyle

SMALL_BATCH = 4
"""Largest optimum batch for which launches are taken to weigh more than multiply-adds (a judgement, no measurement)."""


def graph_style(config: ExportConfig) -> GraphStyle:
    """The forms of the table above for this precision and batch."""
    ranges = (*config.shapes, *(r for profile in config.profiles for r in profile))
    is_small = all(r.optimum[0] <= SMALL_BATCH for r in ranges if r.optimum)
    few = is_small and config.precision is not Precision.FP32
    return GraphStyle(
        where_mask=True,
        merged_y2=False,
        concat_fuse=True,
        centred_norm=True,
        cru_convolutions=TWO if few else THREE,
        fused=config.form is Form.PLUGIN,
    )
