"""``scconv::Block`` in float64 NumPy, from its packed constants as they lie in memory; slow, and with no shortcut.

Written from the contract of the operator (``runtime/block_fusion.py``), not from the code that packs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from tests.kernels.reference import SRUCase, fuse, sru


def block(node: onnx.NodeProto, given: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The node's output (N, C_out, H, W) for x (N, C, H, W), both planar.

    Args:
        node: one Block; what is not said by its attributes is not known.
        given: the graph's constants, by name.
        x: planar, float32.
    """
    facts: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    sru_kind, fuse_kind = facts["sru"].decode(), facts["fuse"].decode()
    rest = [given[name].ravel().astype(np.float64) for name in node.input[1:]]
    case, rest = _sru(sru_kind, facts, rest)
    b, k = facts["block"], facts["kernel"]
    halves = np.concatenate(sru(case, x).values, axis=1)
    w_up, b_up, w_low, b_low, w_gwc, w_pwc1, b_y1, w_y2, b_y2, *ends = rest
    first = w_up.size // b_up.size
    up = _pointwise(halves[:, :first], w_up, b_up, b)
    low = _pointwise(halves[:, first:], w_low, b_low, b)
    y1 = _grouped(up, w_gwc, b_y1, facts["gwc_groups"], k, b) + _pointwise(up, w_pwc1, 0 * b_y1, b)
    y2 = _pointwise(low, w_y2, b_y2, b)
    # The kernel does not read the rows that only copy.
    y2[:, facts["y2_copied_from"] :] = low[:, : y2.shape[1] - facts["y2_copied_from"]]
    scale, shift = ends[:2] if "affine" in fuse_kind else (np.ones(1), np.zeros(1))
    return fuse(fuse_kind, y1, y2, scale, shift).values[0]


def _sru(kind: str, facts: Mapping[str, Any], rest: list[np.ndarray]) -> tuple[SRUCase, list[np.ndarray]]:
    scale, shift, *rest = rest
    weight = mask = np.ones(1)
    if "normalised" in kind:
        weight, *rest = rest
    if "static" in kind:
        mask, *rest = rest
    case = SRUCase(
        kind, facts["groups"], scale, shift, weight, mask, facts.get("logit", 0.0), facts["epsilon"]
    )
    return case, rest


def _pointwise(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, b: int) -> np.ndarray:
    """Weight (O/b, I, b)."""
    n, inputs, h, w = x.shape
    out: np.ndarray = np.zeros((n, bias.size, h, w)) + bias.reshape(-1, 1, 1)
    out += np.einsum("oil,nihw->nolhw", weight.reshape(-1, inputs, b), x).reshape(out.shape)
    return out


def _grouped(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int, k: int, b: int) -> np.ndarray:
    """Weight (O/b, k, k, I/groups, b)."""
    n, inputs, h, w = x.shape
    own, outputs, border = inputs // groups, bias.size, k // 2
    padded = np.pad(x, [(0, 0), (0, 0), (border, border), (border, border)])
    taps = weight.reshape(outputs // b, k, k, own, b)
    out: np.ndarray = np.zeros((n, outputs, h, w)) + bias.reshape(-1, 1, 1)
    for o in range(outputs // b):
        g = o * b // (outputs // groups)
        for dy in range(k):
            for dx in range(k):
                seen = padded[:, g * own : (g + 1) * own, dy : dy + h, dx : dx + w]
                out[:, o * b : (o + 1) * b] += np.einsum("il,nihw->nlhw", taps[o, dy, dx], seen)
    return out
