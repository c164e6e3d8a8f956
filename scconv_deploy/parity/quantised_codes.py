"""The codes that an artifact makes, against the graph's own arithmetic: activation by activation, on its own codes.

Every activation's codes are taken from one run of the artifact. Each is then computed again by interpreting the
graph from the artifact's *other* codes (and its gate decisions), so that no error travels further than to the
next code: an integer kernel may be one step off where a sum lies near a half, anything else is a fault at that
very activation. Untrained, hard-gated networks are judged as sharply as trained ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor

from scconv_deploy.graph.quantised import QuantisedParts, QuantisedValue
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.interpret.values import from_numpy
from scconv_deploy.runtime.onnx import OnnxRunner


@dataclass(frozen=True, slots=True)
class Codes:
    """One activation: ``elements`` codes, and how many are one step or more off."""

    value: QuantisedValue
    elements: int
    off_by_one: int
    off: int


@dataclass(frozen=True, slots=True)
class Mask:
    """One block's decisions by the name of its mask: how many differ from the graph's on the same codes."""

    name: str
    gates: int
    off: int


@dataclass(frozen=True, slots=True)
class Ends:
    """One output of the network: its largest error from the same codes, and its scale."""

    output: str
    error: float
    scale: float


def watched(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of ``model`` that also gives these values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {v.name for v in [*copy.graph.output, *copy.graph.input]}
    copy.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(n) for n in dict.fromkeys(names) if n not in known
    )
    return copy


def compare_codes(
    model: onnx.ModelProto,
    parts: QuantisedParts,
    masks: Sequence[str],
    inputs: Mapping[str, np.ndarray],
) -> tuple[list[Codes], list[Mask], list[Ends]]:
    """Run once in ONNX Runtime and judge every activation and output by the graph.

    Args:
        model: the quantised graph.
        parts: its Q/DQ.
        masks: gate decisions by name (none where the gate is inside a fused node).
        inputs: as the graph takes them.

    Raises:
        InputError, CapabilityError: ONNX Runtime does not run the graph.
    """
    outputs = [v.name for v in model.graph.output]
    seen = {v.codes: _seen(v) for v in parts.values.values()}
    plain = any(_is_float8(v) for v in parts.values.values())
    # ONNX Runtime 1.32's optimiser changes what a float8 graph computes (digits sample: mean error 5.4 for 0.43).
    with OnnxRunner(
        watched(model, [*seen.values(), *masks]).SerializeToString(), optimise=not plain
    ) as runner:
        made = runner.run(inputs)
    held = {name: from_numpy(made[name]) for name in masks}
    codes = {name: _codes(parts.values[name], made[shown]) for name, shown in seen.items()}
    program = OnnxProgram(model)
    given = {k: from_numpy(v) for k, v in inputs.items()}
    found = []
    for value in parts.values.values():
        forced = held | {k: v for k, v in codes.items() if k != value.codes}
        again = program.evaluate(given, [value.codes], forced)
        found.append(_judged(value, codes[value.codes], again[value.codes]))
    decided = []
    for name, mask in held.items():
        others = {k: v for k, v in held.items() if k != name}
        exact = program.evaluate(given, [name], others | codes)[name]
        decided.append(Mask(name, mask.numel(), int(torch.ne(exact, mask).sum())))
    ends = program.evaluate(given, outputs, held | codes)
    return found, decided, [_end(name, made[name], ends[name]) for name in outputs]


def _seen(value: QuantisedValue) -> str:
    """Integer codes are watched themselves: a watched DQ would not be fused. NumPy cannot take float8 codes."""
    return value.dequantised[0] if _is_float8(value) else value.codes


def _codes(value: QuantisedValue, made: np.ndarray) -> Tensor:
    if not _is_float8(value):
        return from_numpy(made)
    steps = made.astype(np.float32) / value.scale.astype(np.float32)
    return torch.from_numpy(steps).to(torch.float8_e4m3fn)


def _is_float8(value: QuantisedValue) -> bool:
    return value.zero_point.dtype.name == "float8_e4m3fn"


def _judged(value: QuantisedValue, made: Tensor, again: Tensor) -> Codes:
    if made.shape != again.shape:
        return Codes(value, made.numel(), 0, made.numel())
    steps = (_ordinal(made) - _ordinal(again)).abs()
    return Codes(value, made.numel(), int((steps == 1).sum()), int((steps > 1).sum()))


def saturated_share(value: QuantisedValue, floats: np.ndarray) -> float:
    """Share of ``floats`` that no code of ``value`` is near to; NaN counts."""
    scale, zero = float(value.scale), float(value.zero_point)
    kind = value.zero_point.dtype
    # The last float8 code, 448, is 32 apart from its neighbour.
    slack = 16.0 if _is_float8(value) else 0.5
    lowest, highest = (-448.0, 448.0) if _is_float8(value) else (np.iinfo(kind).min, np.iinfo(kind).max)
    wide = floats.astype(np.float64)
    inside = (wide >= (lowest - zero - slack) * scale) & (wide <= (highest - zero + slack) * scale)
    return float(1.0 - inside.mean()) if wide.size else 0.0


def _ordinal(codes: Tensor) -> Tensor:
    """Codes as integers in the order of their values: float8 by its bits, sign and magnitude."""
    if codes.dtype is not torch.float8_e4m3fn:
        return codes.int()
    bits = codes.view(torch.uint8).int()
    return torch.where(bits >= 128, 128 - bits, bits)


def _end(name: str, made: np.ndarray, again: Tensor) -> Ends:
    ours, theirs = again.double(), torch.from_numpy(made.astype(np.float64))
    if ours.shape != theirs.shape:
        return Ends(name, float("inf"), 1.0)
    error = (ours - theirs).abs().nan_to_num(nan=float("inf"))
    return Ends(name, float(error.max()) if error.numel() else 0.0, float(ours.abs().nan_to_num().max()))
