"""The graph cut along its SCConv blocks, every piece fed with the reference's own tensors.

A gate is a discontinuity: one decision that rounding flips moves a whole |x| and everything downstream, so an
end-to-end difference alone proves little. Teacher-forced, each piece is judged by itself:

* a block against the user's own block in float64, on activations that the reference really produced and on
  an input that puts many gates exactly on the threshold, where ``>`` and ``>=`` part (:func:`edge_input`);
* all that lies outside the blocks, in one cut, against the reference's own activations: it has no gates.

A sample of a block that misses the limit is excused only if a gate of that sample lies inside the rounding
band around its threshold, and never all samples of a block.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import nn

from scconv_deploy.artifacts import LoweredModel, TracedGraph
from scconv_deploy.graph.pieces import Piece, block_piece, rest_nodes, rest_piece
from scconv_deploy.metrics import judge
from scconv_deploy.parity.reference import Recording, Reference, joined
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.spec import Order
from scconv_deploy.tolerances import GATE_BAND_FP32, PIECE_FP32
from scconv_deploy.verdicts import PieceCheck, Tolerance, Verdict

OUTSIDE = "outside the SCConv blocks"
EXACTLY_AT = 1e-12
"""A gate's relative margin in float64 below which it is on the threshold, not near it."""
WHOLE_MODEL = "the model"
"""Name of the piece where the whole model is one block (its module path is empty)."""


@dataclass(frozen=True, slots=True)
class PieceChecks:
    """Checks in the graph's order, and how much of the graph they cover.

    ``blocks`` are the names of the checks that are SCConv blocks (the others have no certified gate in
    them); ``uncut`` are certified blocks that could not be cut out, so that their gates lie in the rest;
    ``complete`` says that every node of the graph was in some piece.
    """

    checks: tuple[PieceCheck, ...] = ()
    blocks: frozenset[str] = frozenset()
    uncut: tuple[str, ...] = ()
    complete: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Block:
    """A block's piece with the reference's tensors at its border."""

    path: str
    piece: Piece
    given: torch.Tensor
    made: torch.Tensor
    norm_path: str | None


def check_pieces(
    graph: TracedGraph,
    lowered: LoweredModel,
    reference: Reference,
    truth: Reference | None,
    batches: Sequence[Mapping[str, np.ndarray]],
) -> PieceChecks:
    """Check every block that can be cut out, and the rest.

    Args:
        graph: the ONNX graph that was handed to the builder.
        lowered: says which BatchNorm was folded into which block.
        reference: the user's module; ``truth`` the same in float64 (None where it cannot run so).
        batches: small batches of inputs, each of a batch size the graph takes.
    """
    model = onnx.shape_inference.infer_shapes(graph.model)
    norms = dict(lowered.folded)
    watched = [*graph.block_paths] + [norms[p] for p in graph.block_paths if p in norms]
    record = joined([reference.trace(batch, list(dict.fromkeys(watched))) for batch in batches])
    size = min(len(a) for a in batches[0].values())
    sample = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    blocks, notes = _blocks(model, graph.block_paths, record, norms)
    # One edge sample is enough, but a graph with a fixed batch takes that many.
    edges = min(size, graph.inputs[0].minimum[0])
    checks = [_check_block(b, lowered.module, truth or reference, size, edges) for b in blocks]
    cut = [b.piece for b in blocks]
    rest = rest_piece(model, cut)
    ahead = [] if rest is None else _check_rest(rest, blocks, record, sample, size)
    merged: list[PieceCheck] = []
    for block, check in zip(blocks, checks, strict=True):
        merged += [c for c in ahead if c.piece == f"the layers before {block.path}"]
        merged.append(check)
    merged += [c for c in ahead if c.piece not in {m.piece for m in merged}]
    complete = rest is not None or not rest_nodes(model, cut)
    if not complete:
        notes.append(f"what lies {OUTSIDE} could not be cut out; only the end-to-end comparison judges it")
    done = {b.path for b in blocks}
    return PieceChecks(
        checks=tuple(merged),
        blocks=frozenset(c.piece for c in checks),
        uncut=tuple(p for p in graph.block_paths if p not in done),
        complete=complete,
        notes=tuple(notes),
    )


def _open(piece: Piece) -> OnnxRunner:
    """On as many threads as torch: what is too small for two there is too small for two here."""
    return OnnxRunner(piece.model.SerializeToString(), threads=torch.get_num_threads())


def _in_batches(runner: OnnxRunner, arrays: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Run batch by batch (a static graph takes exactly ``size`` samples) and put the results together."""
    count = min(len(a) for a in arrays.values())
    parts = [
        runner.run({name: a[start : start + size] for name, a in arrays.items()})
        for start in range(0, count, size)
    ]
    return {name: np.concatenate([p[name] for p in parts]) for name in runner.output_names}


def _blocks(
    model: onnx.ModelProto, paths: Sequence[str], record: Recording, norms: Mapping[str, str]
) -> tuple[list[_Block], list[str]]:
    found, notes = [], []
    for path in paths:
        end = norms.get(path, path)
        if record.calls.get(path) != 1 or path not in record.inputs or end not in record.outputs:
            notes.append(
                f"{path or WHOLE_MODEL}: not checked by itself, it does not run exactly once per call"
            )
            continue
        piece = block_piece(model, path)
        if piece is None:
            notes.append(
                f"{path or WHOLE_MODEL}: not checked by itself, simplification merged it with its "
                "surroundings"
            )
            continue
        found.append(_Block(path, piece, record.inputs[path], record.outputs[end], norms.get(path)))
    first_node = {b.path: _position(model, b.piece) for b in found}
    return sorted(found, key=lambda b: first_node[b.path]), notes


def _position(model: onnx.ModelProto, piece: Piece) -> int:
    names = {node.name for node in piece.model.graph.node}
    return next(i for i, node in enumerate(model.graph.node) if node.name in names)


def _check_block(block: _Block, lowered: nn.Module, source: Reference, size: int, edges: int) -> PieceCheck:
    deploy = lowered.get_submodule(block.path)
    given = torch.cat([block.given.float(), edge_input(tuple(block.given[:edges].shape), deploy)])
    wide = given.to(next((p.dtype for p in source.module.parameters()), torch.float64))
    with torch.no_grad():
        want = source.module.get_submodule(block.path)(wide)
        if block.norm_path is not None:
            want = source.module.get_submodule(block.norm_path)(want)
        margins = _margins(deploy, given)
    with _open(block.piece) as runner:
        got = _in_batches(runner, {block.piece.inputs[0]: given.numpy()}, size)[block.piece.outputs[0]]
    real = len(block.given)
    return _judge_samples(block.path or WHOLE_MODEL, want.numpy(), got, margins, real, PIECE_FP32)


def edge_input(shape: tuple[int, ...], deploy: nn.Module) -> torch.Tensor:
    """Input of ``shape`` (N, C, H, W) with every norm group of mean exactly 1, and a third of it 1.

    Each group holds as many 0 as 2, and otherwise 1: small integers, whose sum every arithmetic gives
    exactly. Where the input is 1 the normalised value is exactly 0; with beta = 0 and t = 0.5 (what every
    implementation starts from) the gate then stands on its threshold. The positions differ between groups
    and halves: where both halves hold the same value, a hard gate's reconstruction hides the decision.
    """
    return _edge(shape, deploy.spec.sru.groups if isinstance(deploy, DeploySCConv) and deploy.spec.sru else 1)


@functools.lru_cache(maxsize=4)
def _edge(shape: tuple[int, ...], groups: int) -> torch.Tensor:
    """Kept, because a network has many blocks of few shapes and sorting is slow; callers copy it."""
    flat = torch.ones(shape[0], groups, int(np.prod(shape[1:])) // groups)
    third = flat.shape[2] // 3
    order = torch.rand(flat.shape, generator=torch.Generator().manual_seed(0)).argsort(dim=2)
    flat.scatter_(2, order[..., :third], 0.0)
    flat.scatter_(2, order[..., third : 2 * third], 2.0)
    return flat.reshape(shape)


def _margins(deploy: nn.Module, given: torch.Tensor) -> np.ndarray:
    """Per sample, the smallest relative distance of a gate from its threshold, in float64."""
    if not isinstance(deploy, DeploySCConv) or deploy.sru is None:
        return np.full(len(given), np.inf)
    wide = copy.deepcopy(deploy).double()
    x = given.double()
    if wide.cru is not None and wide.spec.order is Order.CRU_SRU:
        x = wide.run_cru(x)
    sru = wide.sru
    return np.full(len(given), np.inf) if sru is None else sru.gate_margin(x).numpy()


def _judge_samples(
    name: str, want: np.ndarray, got: np.ndarray, margins: np.ndarray, real: int, tolerance: Tolerance
) -> PieceCheck:
    """``real`` samples are the reference's activations; those behind them are the edge input."""
    if want.shape != got.shape:
        sentence = f"shape {got.shape} against the reference's {want.shape}"
        return PieceCheck(name, Verdict.FAIL, len(want), 0, 0, np.inf, 0.0, sentence)
    usable = [i for i in range(len(want)) if np.isfinite(want[i]).all()]
    results = [judge(name, name, want[i], got[i], tolerance) for i in usable]
    # A margin of 0 (the edge input, without shift) is no rounding matter: both sides compute s = 0 exactly,
    # so they must agree. The margin itself comes from float64, whose running mean is off by some 1e-16.
    near = [bool(EXACTLY_AT < margins[i] < GATE_BAND_FP32) for i in usable]
    passed = [r.verdict is Verdict.PASS for r in results]
    worst = max((r.metrics.max_abs for r in results), default=0.0)
    limit = max((r.limit for r in results), default=0.0)
    # The edge input passes some wrong blocks; a real one must pass.
    proved = any(ok for i, ok in zip(usable, passed, strict=True) if i < real)
    excused = all(ok or close for ok, close in zip(passed, near, strict=True)) and proved
    verdict = Verdict.PASS if excused else Verdict.FAIL
    missed = sum(not ok for ok in passed)
    sentence = f"largest difference {worst:.3g}, limit {limit:.3g}"
    if missed and excused:
        sentence += f"; {missed} of {len(usable)} samples differ, all with gates inside the rounding band"
    return PieceCheck(name, verdict, len(usable), sum(passed), sum(near), worst, limit, sentence)


def _check_rest(
    rest: Piece,
    blocks: Sequence[_Block],
    record: Recording,
    sample: Mapping[str, np.ndarray],
    size: int,
) -> list[PieceCheck]:
    values: dict[str, np.ndarray] = dict(sample)
    for block in blocks:
        values[block.piece.outputs[0]] = block.made.numpy()
    with _open(rest) as runner:
        got = _in_batches(runner, {name: values[name] for name in rest.inputs}, size)
    want = {name: record.results[name] for name in rest.outputs if name in record.results}
    titles = {name: f"output '{name}'" for name in want}
    for block in blocks:
        if block.piece.inputs[0] in got:
            want[block.piece.inputs[0]] = block.given.numpy()
            titles[block.piece.inputs[0]] = f"the layers before {block.path}"
    checks = []
    for name, array in want.items():
        result = judge(OUTSIDE, name, array, got[name], PIECE_FP32)
        count = len(array) if array.ndim else 1
        passed = count if result.verdict is Verdict.PASS else 0
        checks.append(
            PieceCheck(
                titles[name],
                result.verdict,
                count,
                passed,
                0,
                result.metrics.max_abs,
                result.limit,
                result.sentence,
            )
        )
    return checks
