"""What lies outside the SCConv blocks, in one cut: it has no gates, so it must simply agree.

Fed with the reference's own tensors at the blocks' borders. A float32 graph runs in ONNX Runtime; one with
16-bit types in float64 (its rounded weights against the user's), where only a wrong function is far off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from torch import Tensor

from scconv_deploy.graph.pieces import Piece, rest_nodes, rest_piece
from scconv_deploy.graph.units import float_types
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.metrics import judge
from scconv_deploy.parity.block import Block
from scconv_deploy.parity.reference import Recording
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.tolerances import Limits
from scconv_deploy.verdicts import PieceCheck, Verdict

OUTSIDE = "outside the SCConv blocks"


def check_outside(
    model: onnx.ModelProto,
    blocks: Sequence[Block],
    record: Recording,
    sample: Mapping[str, np.ndarray],
    limits: Limits,
    size: int,
) -> list[PieceCheck] | None:
    """One check per block ("the layers before ...") and output; None where the rest cannot be cut out.

    Args:
        model: the whole graph.
        blocks: those that were cut out.
        record: the reference's tensors.
        sample: the inputs of that recording.
        limits: of the graph's precision.
        size: samples that the graph takes at once.
    """
    pieces = [b.piece for b in blocks]
    rest = rest_piece(model, pieces)
    if rest is None:
        return None if rest_nodes(model, pieces) else []
    values = dict(sample)
    for block in blocks:
        values[block.piece.outputs[0]] = block.made.numpy()
    got = _run(model, rest, {name: values[name] for name in rest.inputs}, size)
    want = {name: record.results[name] for name in rest.outputs if name in record.results}
    titles = {name: f"output '{name}'" for name in want}
    for block in blocks:
        if block.piece.inputs[0] in got:
            want[block.piece.inputs[0]] = block.given.numpy()
            titles[block.piece.inputs[0]] = f"the layers before {block.path}"
    return [_check(titles[name], array, got[name], limits) for name, array in want.items()]


def _check(title: str, want: np.ndarray, got: np.ndarray, limits: Limits) -> PieceCheck:
    result = judge(OUTSIDE, title, want, got, limits.outside)
    count = len(want) if want.ndim else 1
    passed = count if result.verdict is Verdict.PASS else 0
    return PieceCheck(
        title, result.verdict, count, passed, 0, result.metrics.max_abs, result.limit, result.sentence
    )


def _run(
    model: onnx.ModelProto, rest: Piece, values: Mapping[str, np.ndarray], size: int
) -> dict[str, np.ndarray]:
    """Batch by batch: a static graph takes exactly ``size`` samples."""
    count = min(len(a) for a in values.values())
    chunks = [{k: v[at : at + size] for k, v in values.items()} for at in range(0, count, size)]
    if float_types(model, rest) - {"fp32", "fp64"}:
        program = OnnxProgram(rest.model, lift=torch.float64)
        parts = [_lifted(program, rest, chunk) for chunk in chunks]
    else:
        with OnnxRunner(rest.model.SerializeToString(), threads=torch.get_num_threads()) as runner:
            parts = [runner.run(chunk) for chunk in chunks]
    return {name: np.concatenate([p[name] for p in parts]) for name in rest.outputs}


def _lifted(program: OnnxProgram, rest: Piece, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    given: dict[str, Tensor] = {k: torch.tensor(v) for k, v in values.items()}
    return {k: v.numpy() for k, v in program.evaluate(given, rest.outputs).items()}
