"""A block with a fused SRU, in the arithmetic of the kernel that really runs: its decisions from its results.

``scconv::SRU_*`` gives (y_a, y_b) and no mask. Each pair of values hangs on two gates, its own channel's and
that of its partner in the other half; what each of the four pairs of decisions makes of the input is known in
float64. A pair of values that is not the truth's by more than float32 explains, and is what another pair of
decisions makes, tells which of the gates flipped; where several pairs explain it, the one whose flipped gates
lie nearest to their thresholds is taken. A value that no decisions explain is no flip but an error, and stays
one. A flip that moves nothing (``x`` is 0 there) is not seen, and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx
import torch
from torch import Tensor

from scconv_deploy.graph.bodies import fused_sru
from scconv_deploy.graph.names import belongs_to
from scconv_deploy.graph.pieces import Piece, block_piece, cut
from scconv_deploy.graph.units import Gate, sru_nodes, sru_piece
from scconv_deploy.interpret.runner import to_numpy
from scconv_deploy.interpret.values import from_numpy
from scconv_deploy.parity.arithmetic import Arithmetic, Run
from scconv_deploy.parity.block import Block
from scconv_deploy.parity.exact import ExactBlock
from scconv_deploy.runtime.onnx import STANDARD, OnnxRunner, version
from scconv_deploy.tolerances import LIMITS

FLIPS = ((True, False), (False, True), (True, True))
"""Own gate, partner's gate: what may have flipped."""


def arithmetic_of(model: onnx.ModelProto, block: Block, inverted: bool) -> Arithmetic:
    """Who runs the block as it ships.

    Args:
        model: the graph that was handed to the builder, with the types of its inner values.
        block: with the units found in that graph's standard operators
            (:func:`~scconv_deploy.graph.bodies.in_standard_operators`).
        inverted: the graph's mask is the complement of the truth's.
    """
    piece = block_piece(model, block.path)
    shipped = block if piece is None else replace(block, piece=piece)
    if block.units.gate is None or fused_sru(model, block.path) is None:
        return Arithmetic(model, shipped)
    return FusedArithmetic(model, shipped, inverted)


def fused_operator(model: onnx.ModelProto, block: Block) -> str | None:
    """``path.sru/SRU_hard_2 (SRU_hard)`` where the SRU is one node: what is wrong there is the kernel's."""
    node = fused_sru(model, block.path)
    return None if node is None else f"{node.name} ({node.op_type})"


class FusedArithmetic(Arithmetic):
    """Runs the parts of a block whose SRU is one node.

    The node runs alone in ONNX Runtime: on our kernel where that is there, else on the function's body, and
    in half precision too, since both compute in float32 and round their results once.

    Args:
        model: the graph as it ships.
        block: its piece of that graph, and its units of the graph in standard operators.
        inverted: as in :func:`arithmetic_of`.

    Raises:
        ValueError: the SRU cannot be cut out, which a block with a gate and two halves rules out.
    """

    def __init__(self, model: onnx.ModelProto, block: Block, inverted: bool) -> None:
        super().__init__(model, block)
        piece = sru_piece(model, block.path)
        if piece is None:
            raise ValueError(f"{block.unit('SRU')} cannot be cut out")
        runner = _runner_of(piece)
        others = f"; its other operators in {self.name}" if self.in_torch else ""
        self.name = f"{_words(runner.kernels)} in ONNX Runtime {version()} on CPU, float32{others}"
        self.inverted = inverted
        self._sru = self._runs(runner, piece)

    def halves(self) -> Run:
        """(SRU's input) -> [y_a, y_b], by the node itself."""
        return self._sru

    def mask(self, gate: Gate) -> Run:  # noqa: ARG002 - the node has no mask; it is read off its results
        """(SRU's input) -> [mask], as the node's results have it, in the sense of the graph's mask."""

        def run(values: Mapping[str, Tensor]) -> list[Tensor]:
            (given,) = values.values()
            mask = decisions(self.block.exact, given, self._sru(values))
            return [~mask if self.inverted else mask]

        return run

    def forced(self, gate: Gate | None) -> Run | None:
        """(block's input, mask) -> [output]: what the CRU makes of the halves that these decisions give.

        Where the CRU runs first, the halves that they give of what the CRU makes. The SRU's own arithmetic is
        seen in its halves off the flips.
        """
        if gate is None:
            return super().forced(None)
        run = self._around()
        if run is None:
            return None
        x, exact, units = self.block.piece.inputs[0], self.block.exact, self.block.units

        def forced(values: Mapping[str, Tensor]) -> list[Tensor]:
            mask = values[gate.mask]
            mask = ~mask if self.inverted else mask
            if exact.cru_first:
                return [torch.cat(_halves(exact, run({x: values[x]})[0], mask), dim=1)]
            made = _halves(exact, values[x], mask)
            return run({n: self.rounded(h, n) for n, h in zip(units.halves, made, strict=True)})

        return forced

    def _around(self) -> Run | None:
        """The block without its SRU: halves -> output, or its input -> the SRU's where the CRU runs first."""
        units, path = self.block.units, self.block.path
        wanted = (units.sru_input or "",) if self.block.exact.cru_first else self.block.piece.outputs
        if self.in_torch:
            return self._inner(wanted)
        own = {node.name for node in sru_nodes(self.model, path)}
        scope = path if not self.block.exact.cru_first else (f"{path}.cru" if path else "cru")
        nodes = [n for n in self.model.graph.node if belongs_to(n.name, scope) and n.name not in own]
        return self._session(cut(self.model, nodes, path, ()))

    def _runs(self, runner: OnnxRunner, piece: Piece) -> Run:
        def run(values: Mapping[str, Tensor]) -> list[Tensor]:
            (given,) = values.values()
            step = self.block.batch
            made = [
                runner.run({piece.inputs[0]: to_numpy(given[at : at + step])})
                for at in range(0, len(given), step)
            ]
            return [torch.cat([from_numpy(part[n]) for part in made]) for n in self.block.units.halves]

        return run


def _runner_of(piece: Piece) -> OnnxRunner:
    data, threads = piece.model.SerializeToString(), torch.get_num_threads()
    if piece.model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
        # Our library for ONNX Runtime has no kernels for bfloat16; asked for them, it would be said to be broken.
        return OnnxRunner(data, threads=threads, use_kernels=False)
    return OnnxRunner(data, threads=threads)


def decisions(exact: ExactBlock, given: Tensor, made: list[Tensor]) -> Tensor:
    """The gates, (N, C, H, W) bool, by which the SRU came to ``made`` (y_a, y_b) from ``given``.

    Raises:
        ValueError: the block has no gate that depends on its input.
    """
    truth = exact.from_sru(given, only_gate=True)
    mask, margin = truth.mask, truth.margin
    if mask is None or margin is None:
        raise ValueError("this block has no gate")
    (own, partner), (near, far) = mask.chunk(2, dim=1), margin.chunk(2, dim=1)
    unflipped = _halves(exact, given, mask)
    allowed = [_rounding(y, want) for y, want in zip(made, unflipped, strict=True)]
    wrong = ~_explained(made, unflipped, allowed)
    best = torch.full_like(near, torch.inf)
    flipped = [torch.zeros_like(own), torch.zeros_like(partner)]
    if not bool(wrong.any()):
        return mask
    for first, second in FLIPS:
        supposed = torch.cat([own ^ first, partner ^ second], dim=1)
        distance = torch.maximum(near if first else near * 0, far if second else far * 0)
        fits = wrong & _explained(made, _halves(exact, given, supposed), allowed) & (distance < best)
        best = torch.where(fits, distance, best)
        for flip, chosen in zip(flipped, (first, second), strict=True):
            flip[fits] = chosen
    return mask ^ torch.cat(flipped, dim=1)


def _explained(made: list[Tensor], want: tuple[Tensor, Tensor], allowed: list[Tensor]) -> Tensor:
    good = [(y.double() - w).abs() <= a for y, w, a in zip(made, want, allowed, strict=True)]
    return good[0] & good[1]


def _rounding(made: Tensor, want: Tensor) -> Tensor:
    """How far float32 moves a value, and one rounding to the type that it is stored in."""
    tolerance, kind = LIMITS["fp32"].structure, torch.finfo(made.dtype)
    scale = want.abs().amax(dim=(1, 2, 3), keepdim=True)
    return tolerance.atol + tolerance.rtol * scale + kind.eps * (made.double().abs() + kind.smallest_normal)


@torch.no_grad()
def _halves(exact: ExactBlock, given: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves in float64, by these decisions.

    Raises:
        ValueError: the block has no SRU.
    """
    if exact.sru is None:
        raise ValueError("this block has no SRU")
    s, gated = exact.sru.logits(given.double())
    y_a, y_b = exact.sru.reconstruct(s, gated, mask).chunk(2, dim=1)
    return y_a, y_b


def _words(kernels: str | None) -> str:
    return "the fused operator's body" if kernels in (None, STANDARD) else f"the fused kernel ({kernels})"
