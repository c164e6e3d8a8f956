"""Reference and result arrays -> all metrics, computed in float64; NaN or a shape mismatch never passes."""

from __future__ import annotations

import math

import numpy as np

from scconv_deploy.verdicts import Comparison, TensorMetrics, Tolerance, Verdict

WORST = float("inf")
ELEMWISE = "elemwise"
"""A tolerance's metric that judges each element against its own magnitude."""


def measure(reference: np.ndarray, result: np.ndarray) -> TensorMetrics:
    """Every difference between two arrays of one shape.

    ``max_rel`` divides each difference by ``max(|reference|, mean |reference|)``, so that values near zero
    do not dominate. ``top1_agreement`` is the share of equal argmax over axis 1 of a 2-D output.

    Raises:
        ValueError: the shapes differ (callers turn that into FAIL with a sentence).
    """
    if reference.shape != result.shape:
        raise ValueError(f"shapes differ: {reference.shape} against {result.shape}")
    want = np.asarray(reference, dtype=np.float64)
    got = np.asarray(result, dtype=np.float64)
    top1 = _top1(want, got)
    if want.size == 0:
        return TensorMetrics(0.0, 0.0, 0.0, 0.0, 1.0, WORST, top1, finite=True)
    finite = bool(np.isfinite(want).all() and np.isfinite(got).all())
    if not finite:
        return TensorMetrics(WORST, WORST, WORST, WORST, math.nan, -WORST, top1, finite=False)
    error = np.abs(got - want)
    # Against an all-zero reference the relative error is legitimately infinite.
    with np.errstate(over="ignore"):
        relative = float((error / np.maximum(np.abs(want), _floor(want))).max())
    quantiles = np.quantile(error, (0.5, 0.9, 0.99))
    noise = float(np.square(error).sum())
    # Sums, not BLAS dot products: waking BLAS's threads costs more than the work on one sample.
    signal = float(np.square(want).sum())
    norms = math.sqrt(signal) * math.sqrt(float(np.square(got).sum()))
    return TensorMetrics(
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        p99_abs=float(quantiles[2]),
        max_rel=relative,
        cosine=float((want * got).sum()) / norms if norms else float(np.array_equal(want, got)),
        sqnr_db=_decibels(signal, noise),
        top1_agreement=top1,
        finite=True,
        median_abs=float(quantiles[0]),
        p90_abs=float(quantiles[1]),
    )


def judge(
    case: str, output: str, reference: np.ndarray, result: np.ndarray, tolerance: Tolerance
) -> Comparison:
    """Compare and gate on the tolerance's metric; the sentence says by how much it passed or failed."""
    scale = float(np.abs(reference[np.isfinite(reference)]).max(initial=0.0))
    limit = tolerance.atol + tolerance.rtol * scale
    if reference.shape != result.shape:
        metrics = TensorMetrics(WORST, WORST, WORST, WORST, math.nan, -WORST, None, finite=False)
        sentence = f"output '{output}' has shape {result.shape}, the reference {reference.shape}"
        return Comparison(case, output, tuple(result.shape), metrics, limit, Verdict.FAIL, sentence)
    metrics = measure(reference, result)
    value = _value(metrics, reference, result, tolerance)
    if tolerance.metric == ELEMWISE:
        limit = tolerance.atol
    if not metrics.finite:
        where = "the reference" if not np.isfinite(reference).all() else "the result"
        sentence = f"output '{output}' holds NaN or infinity in {where}"
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.PASS if value <= limit else Verdict.FAIL
        sentence = f"{tolerance.metric} {value:.3g}, limit {limit:.3g} ({tolerance.name})"
    return Comparison(case, output, tuple(result.shape), metrics, limit, verdict, sentence)


def gated_value(reference: np.ndarray, result: np.ndarray, tolerance: Tolerance) -> float:
    """The number that :func:`judge` holds against the limit; infinite where shapes or values forbid one."""
    if reference.shape != result.shape:
        return WORST
    return _value(measure(reference, result), reference, result, tolerance)


def _value(metrics: TensorMetrics, reference: np.ndarray, result: np.ndarray, tolerance: Tolerance) -> float:
    """What the tolerance gates on; for ``elemwise`` the largest error beyond ``rtol * |reference|``."""
    if tolerance.metric != ELEMWISE or not metrics.finite:
        return float(getattr(metrics, "max_abs" if tolerance.metric == ELEMWISE else tolerance.metric))
    want = np.asarray(reference, dtype=np.float64)
    excess = np.abs(np.asarray(result, dtype=np.float64) - want) - tolerance.rtol * np.abs(want)
    return float(excess.max(initial=0.0))


def _floor(want: np.ndarray) -> float:
    return max(float(np.abs(want).mean()), float(np.finfo(np.float64).tiny))


def _top1(want: np.ndarray, got: np.ndarray) -> float | None:
    if want.ndim != 2 or want.shape[0] == 0 or want.shape[1] < 2:
        return None
    return float((want.argmax(axis=1) == got.argmax(axis=1)).mean())


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return WORST
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -WORST
