"""A quantised graph and the one it was made from -> one check per block, and one of what lies outside.

Four questions, none of which accumulates errors: is it the traced graph but for sound Q/DQ
(:mod:`~scconv_deploy.parity.quantised_structure`)? Do samples stay inside the ranges? Does the artifact make the
codes that the graph says (:mod:`~scconv_deploy.parity.quantised_codes`)? And how many of SRU's decisions do codes
change: that is counted and reported, and judged only where the user sets ``--max-flip-rate``
(:func:`~scconv_deploy.parity.budgets.gate_budgets`). A fused SRU has its gate in its function's body: there the codes
of its input are judged, and what the artifact itself decides is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from scconv_deploy.artifacts import TracedGraph
from scconv_deploy.errors import CapabilityError, InputError, first_line
from scconv_deploy.graph.bodies import in_standard_operators
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.quantised import QuantisedParts, QuantisedValue, read_parts
from scconv_deploy.graph.units import find_units
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.interpret.values import from_numpy
from scconv_deploy.parity.block import WHOLE_MODEL
from scconv_deploy.parity.outside import OUTSIDE
from scconv_deploy.parity.quantised_codes import Codes, Ends, compare_codes, saturated_share, watched
from scconv_deploy.parity.quantised_structure import Fault, structure_faults
from scconv_deploy.runtime.onnx import OnnxRunner
from scconv_deploy.tolerances import QuantLimits
from scconv_deploy.verdicts import PieceCheck, QuantCheck, Verdict


@dataclass(frozen=True, slots=True)
class Decisions:
    """One block's gates: how many there are, and how many codes of SRU's input, or of all before it, change."""

    gates: int
    by_input: int
    running: int | None
    off: int | None = None
    """Decisions of the artifact that differ from the graph's on the same codes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What running showed: codes, outputs, saturation by codes' name, decisions by block; notes where not run."""

    codes: Mapping[str, Codes]
    ends: Sequence[Ends]
    saturated: Mapping[str, float]
    decisions: Mapping[str, Decisions]
    notes: tuple[str, ...] = ()


def check_quantised(
    graph: TracedGraph,
    plain: TracedGraph,
    inputs: Mapping[str, np.ndarray],
    limits: QuantLimits,
    real: bool,
) -> tuple[list[PieceCheck], list[str]]:
    """Judge every block's Q/DQ and the rest's; returns the checks and notes.

    Args:
        graph: the quantised graph as the artifact has it.
        plain: the graph that was quantised.
        inputs: a small batch, as the graph takes it.
        limits: of its rest type.
        real: the inputs are the user's samples, so that ranges must hold them.
    """
    faults = structure_faults(graph.model, plain.model, graph.calibration, limits)
    paths = [*graph.block_paths]
    if faults:
        # A graph of another function has no codes worth looking at.
        parts = _parts(graph.model)
        return [_check(path, paths, parts, faults, None, limits, real) for path in (*paths, None)], []
    parts = read_parts(graph.model)
    measured = _measure(graph, plain, parts, inputs)
    checks = [_check(path, paths, parts, [], measured, limits, real) for path in (*paths, None)]
    return checks, [*measured.notes, *_decisions_in_words(measured)]


def _parts(model: onnx.ModelProto) -> QuantisedParts:
    try:
        return read_parts(model)
    except ValueError:
        return QuantisedParts({}, {}, {})


def _measure(
    graph: TracedGraph, plain: TracedGraph, parts: QuantisedParts, inputs: Mapping[str, np.ndarray]
) -> Measured:
    exact = in_standard_operators(onnx.shape_inference.infer_shapes(plain.model, data_prop=True))
    masks = _masks(exact, plain.block_paths)
    floats = _run(exact, [*masks.values(), *(v.source for v in parts.values.values())], inputs)
    saturated = {v.codes: saturated_share(v, floats[v.source]) for v in parts.values.values()}
    by_input = _by_input(exact, parts, masks, floats, inputs)
    made = {name for node in graph.model.graph.node for name in node.output}
    names = [mask for mask in masks.values() if mask in made]
    try:
        codes, decided, ends = compare_codes(graph.model, parts, names, inputs)
        running: Mapping[str, np.ndarray] = _run(graph.model, names, inputs) if names else {}
        notes: tuple[str, ...] = ()
    except (InputError, CapabilityError) as error:
        codes, decided, ends, running = [], [], [], {}
        notes = (
            f"ONNX Runtime does not run the quantised graph ({first_line(error)}): its codes were not checked",
        )
    off = {mask.name: mask.off for mask in decided}
    decisions = {
        path: Decisions(
            floats[mask].size,
            by_input[path],
            int((running[mask] != floats[mask]).sum()) if mask in running else None,
            off.get(mask),
        )
        for path, mask in masks.items()
    }
    return Measured({c.value.codes: c for c in codes}, ends, saturated, decisions, notes)


def _run(
    model: onnx.ModelProto, names: Sequence[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    with OnnxRunner(watched(model, names).SerializeToString()) as runner:
        return {**inputs, **runner.run(inputs)}


def _masks(model: onnx.ModelProto, paths: Sequence[str]) -> dict[str, str]:
    """Block path -> the name of its mask, where the graph shows it."""
    units = {path: find_units(model, path) for path in paths}
    return {path: u.gate.mask for path, u in units.items() if u.gate is not None}


def _by_input(
    model: onnx.ModelProto,
    parts: QuantisedParts,
    masks: Mapping[str, str],
    floats: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
) -> dict[str, int]:
    """Decisions that change when SRU's exact input is replaced by what its codes stand for."""
    program = OnnxProgram(model)
    given = {k: from_numpy(v) for k, v in inputs.items()}
    by_source = {v.source: v for v in parts.values.values()}
    found = dict.fromkeys(masks, 0)
    for path, mask in masks.items():
        source = find_units(model, path).sru_input
        value = by_source.get(source or "")
        if source is None or value is None or not _reads_codes(parts, value, source):
            continue
        coded = _through_codes(value, floats[source])
        exact, changed = (
            program.evaluate(given, [mask], {source: torch.from_numpy(np.array(x))})[mask]
            for x in (floats[source], coded)
        )
        found[path] = int((exact != changed).sum())
    return found


def _reads_codes(parts: QuantisedParts, value: QuantisedValue, source: str) -> bool:
    return any(parts.sources.get(name) == source for name in value.dequantised)


def _through_codes(value: QuantisedValue, floats: np.ndarray) -> np.ndarray:
    scale, zero = float(value.scale), float(value.zero_point)
    kind = value.zero_point.dtype
    steps = floats.astype(np.float64) / scale
    if kind.name == "float8_e4m3fn":
        coded = np.clip(steps, -448.0, 448.0).astype(np.float32).astype(kind).astype(np.float64)
    else:
        limits = np.iinfo(kind)
        coded = np.clip(np.round(steps) + zero, limits.min, limits.max) - zero
    return (coded * scale).astype(floats.dtype)


def _check(
    path: str | None,
    paths: Sequence[str],
    parts: QuantisedParts,
    faults: Sequence[Fault],
    measured: Measured | None,
    limits: QuantLimits,
    real: bool,
) -> PieceCheck:
    """One block, or with ``path`` None all that lies outside the blocks."""

    def own(node: str) -> bool:
        inside = any(belongs_to(node, p) for p in paths)
        return not inside if path is None else belongs_to(node, path)

    values = [v for v in parts.values.values() if own(v.node)]
    constants = sum(own(c.node) for c in parts.constants.values())
    mine = [f for f in faults if own(f.node)]
    title = f"{OUTSIDE if path is None else path or WHOLE_MODEL}, quantised"
    if mine or measured is None:
        sentence = mine[0].sentence if mine else "not looked at, since the graph is another one elsewhere"
        verdict = Verdict.FAIL if mine else Verdict.PASS
        found = QuantCheck(len(values), constants)
        return PieceCheck(title, verdict, 0, 0, 0, 0.0, 0.0, sentence, quantised=found)
    return _judged(title, path, values, constants, measured, limits, real)


def _judged(
    title: str,
    path: str | None,
    values: Sequence[QuantisedValue],
    constants: int,
    measured: Measured,
    limits: QuantLimits,
    real: bool,
) -> PieceCheck:
    codes = [measured.codes[v.codes] for v in values if v.codes in measured.codes]
    total = sum(c.elements for c in codes)
    one, off = sum(c.off_by_one for c in codes), sum(c.off for c in codes)
    saturated = max((measured.saturated[v.codes] for v in values), default=0.0)
    decisions = None if path is None else measured.decisions.get(path)
    wrong = _wrong_codes(codes, limits) or _wrong_gates(decisions, limits)
    wrong = wrong or (_wrong_ends(measured.ends, limits) if path is None else None)
    if wrong is None and real and saturated > limits.saturated:
        worst = max(values, key=lambda v: measured.saturated[v.codes])
        wrong = (
            f"{100 * saturated:.3g} % of the values of '{worst.source}' on real samples lie beyond its range, "
            f"limit {100 * limits.saturated:.3g} %: its scale is too small, or the calibration samples are unlike these"
        )
    sentence = (
        wrong or f"{len(values)} activations and {constants} constants are sound codes of the traced graph"
    )
    if wrong is None and total:
        sentence += f"; {one} of {total} codes are one step off, {off} more"
    if wrong is None and decisions is not None:
        sentence += f"; codes of SRU's input change {decisions.by_input} of {decisions.gates} gates"
    found = QuantCheck(
        len(values),
        constants,
        total if codes else None,
        one if codes else None,
        off if codes else None,
        saturated,
        None if decisions is None else decisions.gates,
        None if decisions is None else decisions.by_input,
        None if decisions is None else decisions.running,
    )
    share, limit = (off / total if total else 0.0), limits.off
    verdict = Verdict.PASS if wrong is None else Verdict.FAIL
    return PieceCheck(title, verdict, 1, int(wrong is None), 0, share, limit, sentence, quantised=found)


def _wrong_codes(codes: Sequence[Codes], limits: QuantLimits) -> str | None:
    for c in codes:
        if c.off > limits.off * c.elements or c.off_by_one > limits.off_by_one * c.elements:
            return (
                f"the artifact's codes of '{c.value.source}' are not the graph's: of {c.elements}, {c.off_by_one} are "
                f"one step off and {c.off} more (limits {100 * limits.off_by_one:.3g} % and "
                f"{100 * limits.off:.3g} %)"
            )
    return None


def _wrong_gates(decisions: Decisions | None, limits: QuantLimits) -> str | None:
    if decisions is None or decisions.off is None or decisions.off <= limits.gates * decisions.gates:
        return None
    return (
        f"{decisions.off} of {decisions.gates} gates decide otherwise than the graph does on the same codes"
    )


def _wrong_ends(ends: Sequence[Ends], limits: QuantLimits) -> str | None:
    for end in ends:
        limit = limits.output.atol + limits.output.rtol * end.scale
        if not end.error <= limit:
            return f"output '{end.output}' is off by {end.error:.3g} from the same codes, limit {limit:.3g}"
    return None


def _decisions_in_words(measured: Measured) -> list[str]:
    found = measured.decisions.values()
    gates = sum(d.gates for d in found)
    if not gates:
        return []
    by_input = sum(d.by_input for d in found)
    text = f"quantised inputs of SRU change {by_input} of {gates} gate decisions ({100 * by_input / gates:.2g} %)"
    running = [d.running for d in found if d.running is not None]
    if running:
        share = 100 * sum(running) / gates
        text += f"; in the whole quantised network {sum(running)} differ ({share:.2g} %), errors before them included"
    return [text]
