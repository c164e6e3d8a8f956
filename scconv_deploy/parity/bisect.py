"""A faulty block -> the first operator whose inputs are right and whose output is not.

The block is written anew from its certified specification and the user's own parameters, and both are run in
float64. A value of the graph is right if the healthy block holds the same numbers somewhere (in any shape:
simplification reshapes); the first node that turns right values into none of them is at fault, or reads the
constant that is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, nn

from scconv_deploy.graph.units import HALF_TYPES, element_types, sru_nodes
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.parity.block import Block
from scconv_deploy.parity.exact import ExactBlock
from scconv_deploy.parity.structure import Structure
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import can_emit, emit_block
from scconv_deploy.scconv.operator import BlockCall
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.tolerances import Limits

X, OUT = "x", "out"


def find_operator(
    block: Block, program: OnnxProgram, structure: Structure, style: GraphStyle, limits: Limits
) -> str | None:
    """``path.sru/Greater_7 (Greater)``, or None where it cannot be told.

    Args:
        block: the faulty block.
        program: its piece, lifted to float64.
        structure: what was found, with the probes.
        style: the graph's form.
        limits: of the graph's precision.
    """
    gate = block.units.gate
    wrong = " ".join(u.sentence for u in structure.units)
    if gate is not None and ("wrong way round" in wrong or "threshold itself" in wrong):
        return f"{gate.node} ({gate.kind})"
    # The edge input stands on the threshold, where float64's own noise decides; the rest does not.
    x = torch.cat([structure.inputs[: structure.real], structure.inputs[-block.batch :]])
    healthy = _healthy(block.exact, style, x)
    if healthy is None:
        return None
    return _first_wrong(program, block.piece.inputs[0], x, healthy, limits.structure.rtol)


def first_half_operator(model: onnx.ModelProto, block: Block) -> str | None:
    """The first operator of the SRU that computes the gate in a 16-bit type, for a gate that is rounded."""
    gate = block.units.gate
    if gate is None:
        return None
    kinds = element_types(model)
    for node in sru_nodes(model, block.path):
        if any(kinds.get(v) in HALF_TYPES for v in node.output) or gate.node == node.name:
            return f"{node.name} ({node.op_type})"
    return None


class _Values:
    """Tensors to be recognised again, by their number of elements."""

    def __init__(self, count: int, rtol: float) -> None:
        self.count = count
        self.rtol = rtol
        self.known: dict[int, list[Tensor]] = defaultdict(list)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Remember."""
        for tensor in tensors:
            self.known[tensor.numel()].append(self._rows(tensor))

    def holds(self, tensor: Tensor) -> bool:
        """Whether an equal tensor is known; shapes, counts and other integers are never at fault here."""
        if not (tensor.is_floating_point() or tensor.dtype is torch.bool):
            return True
        mine = self._rows(tensor)
        return any(self._close(mine, other) for other in self.known.get(tensor.numel(), []))

    def _rows(self, tensor: Tensor) -> Tensor:
        rows = self.count if tensor.ndim and tensor.shape[0] == self.count else 1
        return tensor.detach().double().reshape(rows, -1)

    def _close(self, mine: Tensor, other: Tensor) -> bool:
        if mine.shape != other.shape:
            return False
        scale = other.abs().amax(dim=1, keepdim=True)
        return bool(((mine - other).abs() <= self.rtol * scale).all())


def _first_wrong(program: OnnxProgram, name: str, x: Tensor, healthy: OnnxProgram, rtol: float) -> str | None:
    values = _Values(len(x), rtol)
    values.add([x, *_run_all(healthy, X, x).values()])
    right = {name}
    made = {name: x}
    for step in program.steps:
        outputs = dict(zip(step.outputs, step(*(made[i] for i in step.inputs)), strict=False))
        made.update(outputs)
        good = {n for n, t in outputs.items() if values.holds(t)}
        right |= good
        if len(good) < len(outputs) and all(i in right for i in step.inputs):
            return f"{step.name} ({step.op_type})"
    return None


def _run_all(program: OnnxProgram, name: str, x: Tensor) -> dict[str, Tensor]:
    made = {name: x}
    for step in program.steps:
        made.update(zip(step.outputs, step(*(made[i] for i in step.inputs)), strict=False))
    return made


def _healthy(exact: ExactBlock, style: GraphStyle, x: Tensor) -> OnnxProgram | None:
    """The block written from its specification, in float64; None where it has no written form."""
    if not can_emit(exact.spec):
        return None
    deploy = DeploySCConv(exact.spec, exact.weights, style)
    if deploy.cru is not None and deploy.ends_with_cru and exact.norm is not None:
        deploy.cru.fold_batch_norm(*_affine(exact.norm))
    call = BlockCall(deploy)
    tensors = [t for t in deploy.state_dict().values() if isinstance(t, Tensor)]
    names = [f"constant_{i}" for i in range(len(tensors))]
    double = onnx.TensorProto.DOUBLE
    nodes, more = emit_block(call.plan, X, OUT, names, "healthy", list(x.shape), double)
    constants = [
        onnx.numpy_helper.from_array(t.double().numpy(), n) for n, t in zip(names, tensors, strict=True)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "healthy",
        [onnx.helper.make_tensor_value_info(X, double, list(x.shape))],
        [onnx.helper.make_tensor_value_info(OUT, double, None)],
        [*constants, *more],
    )
    return OnnxProgram(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]))


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm in inference mode, read off its values at 0 and 1."""
    channels = int(norm.num_features)  # type: ignore[arg-type]
    probe = torch.zeros(2, channels, 1, 1, dtype=torch.float64)
    probe[1] = 1.0
    with torch.no_grad():
        at_zero, at_one = norm(probe).reshape(2, channels)
    return at_one - at_zero, at_zero
