"""The graph cut along its SCConv blocks, every piece fed with the reference's own tensors.

A gate is a discontinuity: one decision that rounding flips moves a whole |x| and everything downstream, so an
end-to-end difference alone proves little. Teacher-forced, each piece is judged by itself: a block's function
in float64 (:mod:`~scconv_deploy.parity.structure`), its gates and errors in the artifact's own arithmetic
(:mod:`~scconv_deploy.parity.gates`), and all that lies outside (:mod:`~scconv_deploy.parity.outside`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from scconv_deploy.artifacts import LoweredModel, TracedGraph
from scconv_deploy.graph.bodies import in_standard_operators
from scconv_deploy.graph.pieces import block_piece
from scconv_deploy.graph.shared import unshared
from scconv_deploy.graph.units import find_units
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.parity.bisect import find_operator, first_half_operator
from scconv_deploy.parity.block import WHOLE_MODEL, Block
from scconv_deploy.parity.budgets import Settled
from scconv_deploy.parity.exact import exact_block
from scconv_deploy.parity.fused import arithmetic_of, fused_operator
from scconv_deploy.parity.gates import GateForm, Measured, flips_in_words, measure_block, wrong_gate
from scconv_deploy.parity.outside import OUTSIDE, check_outside
from scconv_deploy.parity.reference import Recording, Reference, joined
from scconv_deploy.parity.structure import Structure, check_structure
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.deploy_sru import gate_is_half
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.typed import TORCH_TYPES
from scconv_deploy.verdicts import PieceCheck, UnitCheck, Verdict


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
class Setting:
    """What every block is judged with: the whole graph with types, in standard operators throughout
    (``model``) and as it was handed to the builder (``shipped``); limits, precision, whether to bisect."""

    model: onnx.ModelProto
    shipped: onnx.ModelProto
    lowered: LoweredModel
    reference: Reference
    settled: Settled
    bisect: bool


def check_pieces(
    graph: TracedGraph,
    lowered: LoweredModel,
    reference: Reference,
    truth: Reference | None,
    batches: Sequence[Mapping[str, np.ndarray]],
    settled: Settled,
    bisect: bool,
) -> PieceChecks:
    """Check every block that can be cut out, and the rest.

    Args:
        graph: the ONNX graph that was handed to the builder.
        lowered: says which BatchNorm was folded into which block, and the precision.
        reference: the user's module; ``truth`` the same in float64 (None where it cannot run so).
        batches: small batches of inputs, each of a batch size the graph takes.
        settled: the limits.
        bisect: narrow a fault inside a block to the operator.
    """
    separate = unshared(graph.model, graph.block_paths)
    shipped = onnx.shape_inference.infer_shapes(separate, data_prop=True)
    model = in_standard_operators(shipped)
    record = _record(graph, lowered, reference, batches)
    blocks, notes = _blocks(model, graph, lowered, truth or reference, record)
    setting = Setting(model, shipped, lowered, reference, settled, bisect)
    checks = [_check_block(b, setting) for b in blocks]
    size = min(len(a) for a in batches[0].values())
    sample = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    ahead = check_outside(shipped, blocks, record, sample, settled.limits, size)
    if ahead is None:
        notes.append(f"what lies {OUTSIDE} could not be cut out; only the end-to-end comparison judges it")
    done = {b.path for b in blocks}
    return PieceChecks(
        checks=_merged(blocks, checks, ahead or []),
        blocks=frozenset(c.piece for c in checks),
        uncut=tuple(p for p in graph.block_paths if p not in done),
        complete=ahead is not None,
        notes=(*notes, *_hidden_gates(blocks)),
    )


def _record(
    graph: TracedGraph,
    lowered: LoweredModel,
    reference: Reference,
    batches: Sequence[Mapping[str, np.ndarray]],
) -> Recording:
    norms = dict(lowered.folded)
    watched = [*graph.block_paths] + [norms[p] for p in graph.block_paths if p in norms]
    return joined([reference.trace(batch, list(dict.fromkeys(watched))) for batch in batches])


def _merged(
    blocks: Sequence[Block], checks: Sequence[PieceCheck], ahead: Sequence[PieceCheck]
) -> tuple[PieceCheck, ...]:
    """In the order of the graph: what lies before a block, then the block."""
    merged: list[PieceCheck] = []
    for block, check in zip(blocks, checks, strict=True):
        merged += [c for c in ahead if c.piece == f"the layers before {block.path}"]
        merged.append(check)
    return (*merged, *(c for c in ahead if c.piece not in {m.piece for m in merged}))


def _blocks(
    model: onnx.ModelProto,
    graph: TracedGraph,
    lowered: LoweredModel,
    source: Reference,
    record: Recording,
) -> tuple[list[Block], list[str]]:
    found, notes = [], []
    norms = dict(lowered.folded)
    certified = {b.path: b for b in lowered.recognition.blocks}
    for path in graph.block_paths:
        end = norms.get(path, path)
        why = None
        if path not in certified:
            why = "it is no certified block of this model"
        elif record.calls.get(path) != 1 or path not in record.inputs or end not in record.outputs:
            why = "it does not run exactly once per call"
        piece = block_piece(model, path)
        if why is None and piece is None:
            why = "simplification merged it with its surroundings"
        if why is not None or piece is None:
            notes.append(f"{path or WHOLE_MODEL}: not checked by itself, {why}")
            continue
        found.append(
            Block(
                path=path,
                piece=piece,
                units=find_units(model, path),
                exact=exact_block(lowered, certified[path], source.module),
                own=source.module.get_submodule(path),
                norm=source.module.get_submodule(end) if path in norms else None,
                given=record.inputs[path].float(),
                made=record.outputs[end].float(),
                batch=_batch(graph, len(record.inputs[path])),
            )
        )
    first_node = {b.path: _position(model, b) for b in found}
    return sorted(found, key=lambda b: first_node[b.path]), notes


def _batch(graph: TracedGraph, recorded: int) -> int:
    """Samples the graph takes at once: what it is fixed to, or its least where the batch is free."""
    least = max(s.minimum[0] if s.minimum else 1 for s in graph.inputs)
    return min(recorded, max(1, least))


def _position(model: onnx.ModelProto, block: Block) -> int:
    names = {node.name for node in block.piece.model.graph.node}
    return next(i for i, node in enumerate(model.graph.node) if node.name in names)


def _hidden_gates(blocks: Sequence[Block]) -> list[str]:
    return [
        f"{b.name}: its gate was not found in the graph; the block is judged by its function alone"
        for b in blocks
        if b.exact.sru is not None and b.exact.sru.dynamic and b.units.gate is None
    ]


def _check_block(block: Block, setting: Setting) -> PieceCheck:
    program = OnnxProgram(block.piece.model, lift=torch.float64)
    dtype = TORCH_TYPES[setting.lowered.precision]
    structure = check_structure(block, program, setting.settled.limits, dtype)
    if not structure.sound:
        return _broken(block, structure, _operator(block, program, structure, setting))
    same = setting.reference.module.get_submodule(block.path)
    if dtype is not torch.float32:
        same = copy.deepcopy(same).to(dtype)
    arithmetic = arithmetic_of(setting.shipped, block, structure.inverted)
    form = _gate_form(setting, block, dtype)
    measured = measure_block(block, arithmetic, structure, setting.settled.limits, same, form)
    return _measured(block, structure, measured, setting)


def _deploy(setting: Setting, block: Block) -> DeploySCConv | None:
    modules = dict(setting.lowered.module.named_modules(remove_duplicate=False))
    found = modules.get(block.path)
    return found if isinstance(found, DeploySCConv) else None


def _operator(block: Block, program: OnnxProgram, structure: Structure, setting: Setting) -> str | None:
    if not setting.bisect:
        return None
    deploy = _deploy(setting, block)
    style = GraphStyle() if deploy is None else deploy.style
    return find_operator(block, program, structure, style, setting.settled.limits)


def _gate_form(setting: Setting, block: Block, dtype: torch.dtype) -> GateForm:
    """What was asked of the gate: its own band of rounding follows from it."""
    deploy = _deploy(setting, block)
    if deploy is None or deploy.sru is None:
        return GateForm(dtype, in_half=False, literal=False)
    half = dtype is not torch.float32 and gate_is_half(deploy.sru.spec, deploy.style)
    return GateForm(dtype, in_half=half, literal=deploy.style.literal_gate)


def _broken(block: Block, structure: Structure, operator: str | None) -> PieceCheck:
    unit = next(u for u in structure.units if u.verdict is Verdict.FAIL)
    sentence = (
        unit.sentence if unit.unit in ("module", "block") else f"{block.unit(unit.unit)}: {unit.sentence}"
    )
    return PieceCheck(
        piece=block.name,
        verdict=Verdict.FAIL,
        samples=len(structure.inputs),
        passed_samples=0,
        near_gate_samples=0,
        max_abs=unit.max_abs,
        limit=unit.limit,
        sentence=sentence if operator is None else f"{sentence}; the first operator at fault is {operator}",
        units=structure.units,
        operator=operator,
    )


def _measured(block: Block, structure: Structure, measured: Measured, setting: Setting) -> PieceCheck:
    gate = measured.gate
    wrong = None if gate is None else wrong_gate(block, gate, setting.settled)
    operator: str | None = None
    units, sentence = list(structure.units), f"largest error {measured.error:.3g}, limit {measured.limit:.3g}"
    if gate is not None:
        sentence += f"; {flips_in_words(gate)}"
    good = measured.good and wrong is None
    if wrong is not None:
        units = [_failed(u, wrong) if u.unit == "SRU" else u for u in units]
        sentence = f"{block.unit('SRU')}: {wrong}"
        if setting.bisect:
            operator = fused_operator(setting.shipped, block) or first_half_operator(setting.model, block)
    elif measured.pytorch_overflows:
        name = setting.lowered.precision.value
        sentence = (
            f"it overflows in {name}, and so does the PyTorch module cast to {name}: that is {name} itself"
        )
        sentence += "; use --precision bf16" if name == "fp16" else ""
    elif not measured.good:
        sentence = f"in {measured.arithmetic} it is off by more than rounding explains: {sentence}"
    near = 0
    margin = structure.steps.margin
    if margin is not None and gate is not None:
        near = int((margin[: structure.real].flatten(1) < gate.band).any(dim=1).sum())
    return PieceCheck(
        piece=block.name,
        verdict=Verdict.PASS if good else Verdict.FAIL,
        samples=len(structure.inputs),
        passed_samples=len(structure.inputs) if good else 0,
        near_gate_samples=near,
        max_abs=measured.error,
        limit=measured.limit,
        sentence=sentence,
        gate=gate,
        units=tuple(units),
        operator=operator,
    )


def _failed(unit: UnitCheck, sentence: str) -> UnitCheck:
    return UnitCheck(unit.unit, Verdict.FAIL, unit.max_abs, unit.limit, sentence)
