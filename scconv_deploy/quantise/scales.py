"""Ranges and weights -> scales, zero points and codes.

Activations: ``uint8`` with a zero point, so that 0 is a code of its own (padding, ReLU) and what a ReLU makes
uses all 256 codes; ``int8`` and ``float8_e4m3fn`` are symmetric. Weights: symmetric per output channel. Biases of
integer convolutions: int32 codes of scale ``s_x * s_w``, as their accumulators are.

A range of zero width gets the scale 1: every value is then the code of 0. Scales are rounded up into the type
that the graph holds them in, so that no code leaves its range.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

LARGEST = {"int8": 127.0, "uint8": 255.0, "float8_e4m3fn": 448.0}
BIAS_CODES = 2.0**30
"""Largest bias in units of its scale: int32 with a bit to spare for the accumulator."""


@dataclass(frozen=True, slots=True)
class Scale:
    """``value = (code - zero_point) * scale`` of one tensor; ``kind`` is the codes' NumPy name."""

    scale: np.ndarray
    zero_point: np.ndarray
    kind: str

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest value that has a code."""
        step, zero = float(self.scale), float(self.zero_point)
        least = {"uint8": 0.0, "int8": -128.0, "float8_e4m3fn": -448.0}[self.kind]
        return (least - zero) * step, (LARGEST[self.kind] - zero) * step


def code_type(kind: str) -> np.dtype:
    """The NumPy type called ``kind``, float8 included."""
    return np.dtype(ml_dtypes.float8_e4m3fn) if kind == "float8_e4m3fn" else np.dtype(kind)


def activation_scale(low: float, high: float, kind: str, rest: np.dtype) -> Scale:
    """The scale of a tensor with values from ``low`` to ``high``; ``rest`` is the scale's own type."""
    low, high = min(low, 0.0), max(high, 0.0)
    if kind == "uint8":
        scale = _held((high - low) / 255.0, rest)
        zero = np.clip(np.round(-low / float(scale)), 0, 255)
        return Scale(scale, np.asarray(zero, dtype=np.uint8), kind)
    scale = _held(max(-low, high) / LARGEST[kind], rest)
    return Scale(scale, np.zeros((), dtype=code_type(kind)), kind)


def weight_codes(
    weight: np.ndarray, axis: int, kind: str, rest: np.dtype, least: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(codes of ``weight``'s shape, scales (channels,)), symmetric per index of ``axis``.

    Args:
        weight: finite.
        axis: of the output channels.
        kind: "int8" or "float8_e4m3fn".
        rest: type of the scales.
        least: per channel, the smallest scale that its bias allows (see :func:`least_scale`).
    """
    wide = np.moveaxis(weight.astype(np.float64), axis, 0).reshape(weight.shape[axis], -1)
    top = np.abs(wide).max(axis=1, initial=0.0) / LARGEST[kind]
    if least is not None:
        top = np.maximum(top, least)
    scales = np.array([_held(t, rest) for t in top], dtype=rest)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    steps = weight.astype(np.float64) / scales.astype(np.float64).reshape(shape)
    if kind == "int8":
        return np.clip(np.round(steps), -127, 127).astype(np.int8), scales
    return np.clip(steps, -448.0, 448.0).astype(np.float32).astype(code_type(kind)), scales


def least_scale(bias: np.ndarray, given: Scale) -> np.ndarray:
    """Smallest weight scale per channel for which the bias still fits into int32 codes."""
    wide: np.ndarray = np.abs(bias.astype(np.float64)) / (float(given.scale) * BIAS_CODES)
    return wide


def bias_codes(bias: np.ndarray, given: Scale, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int32 codes (channels,), their scales): what the accumulators of an integer convolution hold."""
    scales = given.scale.astype(np.float32) * weight.astype(np.float32)
    codes = np.round(bias.astype(np.float64) / scales.astype(np.float64))
    return codes.astype(np.int32), scales


def _held(scale: float, rest: np.dtype) -> np.ndarray:
    """``scale`` in the type ``rest``, never below it; 1 where it is nothing."""
    if scale == 0.0:
        return np.ones((), dtype=rest)
    smallest = float(np.finfo(rest).smallest_normal)
    # Below the smallest normal number of fp16 a scale has few digits of its own: all codes would be off.
    made = np.asarray(max(scale, smallest), dtype=rest)
    return made if float(made) >= scale else np.nextafter(made, np.asarray(np.inf, dtype=rest), dtype=rest)
