"""A norm of the graph on inputs of almost no variance -> whether both sides use the same epsilon.

On ordinary inputs ``x / sqrt(var + eps)`` with eps 1e-5 hides a wrong eps behind the tolerance that long sums
need. With the input scaled so that its variance *is* about eps, a tenth more eps changes the result by 2 %.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from scconv_deploy.programs.segments import run_nodes

NORMS = frozenset(
    {"InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization"}
    | {"MeanVarianceNormalization"}
)
"""Operators whose variance is their input's. BatchNormalization is not here: it is linear in its input, so what
its stored variance hides is hidden for every input."""
DEFAULT_EPSILON = 1e-5
"""ONNX' own for each of them; only the scale of the input comes from it."""
DEVIATIONS = (1.0, 10.0)
"""Standard deviation of the inputs in units of sqrt(eps)."""


def low_variance_inputs(node: onnx.NodeProto, x: np.ndarray) -> list[np.ndarray]:
    """The node's own input, scaled down; none where it is constant (or no float)."""
    if node.op_type not in NORMS or x.dtype.kind != "f":
        return []
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), DEFAULT_EPSILON)
    spread = float(x.std(dtype=np.float64))
    if not np.isfinite(spread) or spread == 0.0 or epsilon <= 0.0:
        return []
    wanted = [times * float(np.sqrt(epsilon)) for times in DEVIATIONS]
    return [(x * (deviation / spread)).astype(x.dtype) for deviation in wanted]


def expected(
    model: onnx.ModelProto, node: onnx.NodeProto, x: np.ndarray, others: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What ONNX Runtime makes of the node alone, with ``x`` as its first input.

    Args:
        model: whose node it is; its initializers are read.
        node: a norm.
        x: first input, of the type that the node takes.
        others: the node's other inputs that are no initializers, by name.

    Raises:
        InputError: ONNX Runtime cannot run it.
    """
    return run_nodes(model, [node], {**others, node.input[0]: x}, [node.output[0]])[node.output[0]]
