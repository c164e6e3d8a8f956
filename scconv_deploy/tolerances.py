"""Every limit that decides a verdict, named and in one place; none is a default hidden in a function.

The figures are for fp32. ``rtol`` multiplies the largest magnitude of the reference output.
"""

from __future__ import annotations

from scconv_deploy.verdicts import Tolerance

END_TO_END_FP32 = Tolerance(name="end-to-end fp32", metric="max_abs", atol=1e-6, rtol=1e-3)
"""Whole model against the user's PyTorch module. A network of 50 layers accumulates about 1e-5 of scale; one
soft gate that flips in a trained digits net moved the logits by 3e-5 to 1e-3 of scale (digits sample, F3)."""

PIECE_FP32 = Tolerance(name="piece fp32", metric="max_abs", atol=1e-8, rtol=1e-4)
"""One teacher-forced block (against float64 truth), or the layers between blocks: a few roundings
deep. The absolute part is tiny because a joint softmax over 2C channels scales a block's output by 1/(2C)."""

GATE_BAND_FP32 = 4e-6
"""A gate is "near its threshold" when ``|s - logit(t)|`` is below this times the sample's largest ``|s|``:
about 32 fp32 roundings, the accumulated error of the statistics, the affine and the comparison."""

AMBIGUOUS_FACTOR = 4.0
"""AMBIGUOUS needs the artifact to be at most this many times as far from float64 truth as the user's own
PyTorch module is: gates that flip move both by the same order of magnitude."""
