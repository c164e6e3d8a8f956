"""A block's graph in float64 on probes: inner values by name, with values forced by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor

from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.parity.block import Block
from scconv_deploy.parity.exact import Steps


class Lifted:
    """Runs a block's piece in float64.

    Args:
        program: the piece, lifted.
        block: whose piece it is; the graph takes ``block.batch`` samples at a time.
        x: the probes, (N, C_in, H, W).
        steps: the truth for ``x``.
    """

    def __init__(self, program: OnnxProgram, block: Block, x: Tensor, steps: Steps) -> None:
        self.program = program
        self.block = block
        self.steps = steps
        self.given = {block.piece.inputs[0]: x}
        self.out = block.piece.outputs[0]
        self.constants = {t.name: t for t in block.piece.model.graph.initializer}

    def values(self, wanted: Sequence[str], forced: Mapping[str, Tensor]) -> list[Tensor]:
        """Inner values by name, for all probes, a batch of the graph at a time; constants as they are."""
        asked = [name for name in wanted if name not in self.constants]
        count, step = len(next(iter(self.given.values()))), self.block.batch
        parts = []
        for at in range(0, count, step):
            inputs = {k: v[at : at + step] for k, v in self.given.items()}
            held = {k: v[at : at + step] for k, v in forced.items()}
            parts.append(self.program.evaluate(inputs, asked, held))
        made = {name: torch.cat([p[name] for p in parts]) for name in asked}
        return [made[n] if n in made else self._constant(n) for n in wanted]

    def sru_input(self) -> dict[str, Tensor]:
        """The truth's input of the SRU, where that is not the block's own input."""
        name = self.block.units.sru_input
        if not self.block.exact.cru_first or name is None or self.steps.given is None:
            return {}
        return {name: self.steps.given}

    def mask(self, inverted: bool) -> dict[str, Tensor]:
        """The truth's decisions as the graph's mask or its complement; empty where there is no gate."""
        gate = self.block.units.gate
        if gate is None or self.steps.mask is None:
            return {}
        return {gate.mask: ~self.steps.mask if inverted else self.steps.mask}

    def halves(self, swapped: bool = False) -> dict[str, Tensor]:
        """The truth's halves by the names they have in the graph; empty where the border is not two values."""
        names, made = self.block.units.halves, self.steps.halves
        if made is None or len(names) != 2:
            return {}
        half = made.shape[1] // 2
        parts = (made[:, half:], made[:, :half]) if swapped else (made[:, :half], made[:, half:])
        return dict(zip(names, parts, strict=True))

    def _constant(self, name: str) -> Tensor:
        array = onnx.numpy_helper.to_array(self.constants[name])
        return torch.tensor(array.astype("float64"))
