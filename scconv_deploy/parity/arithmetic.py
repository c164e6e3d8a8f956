"""Who runs a block's sub-models, in the artifact's own arithmetic: ONNX Runtime, or torch operator by operator.

A graph of float32 runs in ONNX Runtime, each sub-model in a session of its own: inner values are never marked
as outputs of a larger one. A graph with 16-bit types runs in torch, rounding after every operator, since ONNX
Runtime's CPU kernels compute it in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import torch
from torch import Tensor

from scconv_deploy.graph.pieces import Piece
from scconv_deploy.graph.units import Gate, float_types, forced_piece, mask_piece, sru_piece
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.interpret.runner import TorchRunner
from scconv_deploy.interpret.values import TORCH_TYPES
from scconv_deploy.parity.block import Block
from scconv_deploy.runtime.onnx import OnnxRunner, version

Run = Callable[[Mapping[str, Tensor]], list[Tensor]]


class Arithmetic:
    """Runs the parts of one block.

    Args:
        model: the whole graph, with the types of its inner values.
        block: the block.
    """

    def __init__(self, model: onnx.ModelProto, block: Block) -> None:
        self.model = model
        self.block = block
        self.in_torch = bool(float_types(model, block.piece) - {"fp32", "fp64"})
        self._program = OnnxProgram(block.piece.model) if self.in_torch else None
        self.name = (
            TorchRunner(block.piece.model).arithmetic
            if self.in_torch
            else f"ONNX Runtime {version()} on CPU, float32"
        )

    def rounded(self, x: Tensor, name: str) -> Tensor:
        """``x`` in the type that the value ``name`` has in the graph."""
        return x.to(self._type(name))

    def mask(self, gate: Gate) -> Run | None:
        """(SRU's input) -> [mask]."""
        if self._program is not None:
            return self._inner([gate.mask])
        return self._session(mask_piece(self.model, self.block.path, gate))

    def halves(self) -> Run | None:
        """(SRU's input) -> [y_a, y_b]."""
        if self._program is not None:
            return self._inner(self.block.units.halves)
        return self._session(sru_piece(self.model, self.block.path))

    def forced(self, gate: Gate | None) -> Run | None:
        """(block's input, mask) -> [output]; without a gate (block's input) -> [output]."""
        if self._program is not None:
            return self._inner(self.block.piece.outputs)
        piece = self.block.piece if gate is None else forced_piece(self.model, self.block.piece, gate)
        return self._session(piece)

    def _inner(self, wanted: Sequence[str]) -> Run:
        program = self._program
        if program is None:
            raise RuntimeError("this block runs in ONNX Runtime")

        def run(values: Mapping[str, Tensor]) -> list[Tensor]:
            given = {k: v for k, v in values.items() if k in program.input_names}
            held = {k: v for k, v in values.items() if k not in given}
            made = _in_batches(
                lambda g: program.evaluate(_of(g, given), wanted, _of(g, held)), values, self.block.batch
            )
            return [made[name] for name in wanted]

        return run

    def _session(self, piece: Piece | None) -> Run | None:
        if piece is None:
            return None
        # On as many threads as torch: what is too small for two there is too small for two here.
        runner = OnnxRunner(piece.model.SerializeToString(), threads=torch.get_num_threads())

        def run(values: Mapping[str, Tensor]) -> list[Tensor]:
            made = _in_batches(lambda g: _by_runner(runner, g), values, self.block.batch)
            return [made[name] for name in piece.outputs]

        return run

    def _type(self, name: str) -> torch.dtype:
        graph = self.model.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        kind = next((v.type.tensor_type.elem_type for v in values if v.name == name), onnx.TensorProto.FLOAT)
        return TORCH_TYPES[kind]


def _of(values: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in values.items() if k in names}


def _by_runner(runner: OnnxRunner, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made: dict[str, np.ndarray] = runner.run({k: v.numpy() for k, v in values.items()})
    return {k: torch.from_numpy(v) for k, v in made.items()}


def _in_batches(
    run: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], values: Mapping[str, Tensor], size: int
) -> dict[str, Tensor]:
    """A static graph takes exactly ``size`` samples at once; results are put together."""
    count = len(next(iter(values.values())))
    parts = [run({k: v[at : at + size] for k, v in values.items()}) for at in range(0, count, size)]
    return {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
