"""Our reading of a program against ONNX Runtime, step by step -> nothing, or a refusal that names the node.

Every step of the module tree is fed the values that ONNX Runtime itself computed in front of it (with graph
optimisation off) on one small seeded input, and must make what ONNX Runtime made behind it: whole numbers and
truth values exactly, floats to 1e-5 of the value's scale (sums of many values to 1e-4). Norms are compared once
more on inputs of almost no variance, where a wrong epsilon shows. So an operator that we read wrongly can never
pass as the program's own function, and a difference is found where it arises, not where it ends up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from scconv_deploy.errors import InputError
from scconv_deploy.interpret.program import OnnxProgram, Step
from scconv_deploy.interpret.values import from_numpy
from scconv_deploy.programs import segments
from scconv_deploy.programs.low_variance import expected, low_variance_inputs
from scconv_deploy.threads import torch_threads

RTOL = 1e-5
"""Of the output's largest magnitude. Different summation orders of 2,000 products differ by about 1e-6."""
ACCUMULATED_RTOL = 1e-4
"""For norms, means and sums: ONNX Runtime's InstanceNormalization over 50,000 values is off by 1.6e-5."""
ACCUMULATING = frozenset(
    {
        "InstanceNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "ReduceMean",
        "ReduceSum",
        "ReduceL2",
    }
    | {"GlobalAveragePool", "AveragePool", "MatMul", "Gemm", "Conv", "ConvTranspose", "Softmax", "Einsum"}
)


def check_import(model: onnx.ModelProto, program: OnnxProgram, inputs: Mapping[str, np.ndarray]) -> int:
    """Compare every step; returns how many were compared.

    Args:
        model: the program's source, with shapes of inner values where they are known.
        program: the module tree made from it; its parts are compared step by step, too.
        inputs: one small input per name.

    Raises:
        InputError: a step differs, or ONNX Runtime cannot run the model on these inputs.
    """
    check = _Check(model, list(_all_steps(program)), dict(inputs))
    with torch_threads(1):  # hundreds of short operators, each of them otherwise a meeting of threads
        for stretch in check.stretches:
            check.advance(stretch)
    if check.waiting:
        step = check.waiting[0]
        raise InputError(_refusal(step, "could not be compared with ONNX Runtime"))
    return check.compared


@dataclass(slots=True)
class _Check:
    """A run through the graph: the values at hand, and the steps that wait for theirs."""

    model: onnx.ModelProto
    waiting: list[Step]
    values: dict[str, np.ndarray]
    """ONNX Runtime's."""
    compared: int = 0
    stretches: tuple[segments.Stretch, ...] = field(init=False)
    own: dict[str, Tensor] = field(default_factory=dict)
    """What no node of the graph makes, but a step of ours does (a shape read at a region's own input)."""
    made: set[str] = field(init=False)
    makers: dict[str, onnx.NodeProto] = field(init=False)
    to_read: dict[str, int] = field(init=False)
    """Value -> how many stretches to come read it."""

    def __post_init__(self) -> None:
        self.stretches = segments.stretches(self.model)
        self.makers = {v: node for node in self.model.graph.node for v in node.output if v}
        self.made = set(self.makers) | set(self.values)
        self.to_read = {}
        for stretch in self.stretches:
            for name in stretch.reads:
                self.to_read[name] = self.to_read.get(name, 0) + 1

    def advance(self, stretch: segments.Stretch) -> None:
        """Run one stretch, compare every step that has its values now, and let go what is not needed."""
        wanted = self._wanted() | {n for n, count in self.to_read.items() if count}
        self.values.update(segments.run(self.model, stretch, wanted, self.values))
        for name in stretch.reads:
            self.to_read[name] -= 1
        left = []
        for step in self.waiting:
            if self._is_ready(step):
                self._compare(step)
                self.compared += 1
            else:
                left.append(step)
        self.waiting = left
        kept = self._wanted() | {n for n, count in self.to_read.items() if count}
        self.values = {n: a for n, a in self.values.items() if n in kept}

    def _wanted(self) -> set[str]:
        steps = {v for step in self.waiting for v in (*step.inputs, *step.outputs)}
        norms = {v for v in steps if v in self.makers for v in self.makers[v].input}
        return steps | norms

    def _is_ready(self, step: Step) -> bool:
        at_hand = all(v in self.values for v in (*step.inputs, *step.outputs) if v in self.made)
        return at_hand and all(v in self.own for v in step.inputs if v not in self.made)

    def _compare(self, step: Step) -> None:
        given = [self._value(name) for name in step.inputs]
        results = _run(step, given)
        for name, ours in zip(step.outputs, results, strict=False):
            if name in self.values:
                _refuse_difference(step, ours, self.values[name])
            else:
                self.own[name] = ours
        node = self.makers.get(step.outputs[0])
        if node is not None and node.op_type == step.op_type and step.inputs[:1] == tuple(node.input[:1]):
            self._compare_low_variance(step, node, given)

    def _compare_low_variance(self, step: Step, node: onnx.NodeProto, given: list[Tensor]) -> None:
        for x in low_variance_inputs(node, self.values[node.input[0]]):
            others = {v: array for v in node.input[1:] if (array := self._array(v)) is not None}
            theirs = expected(self.model, node, x, others)
            (ours, *_) = _run(step, [_tensor(x), *given[1:]])
            _refuse_difference(step, ours, theirs, " on an input of almost no variance")

    def _array(self, name: str) -> np.ndarray | None:
        """A value that is no initializer."""
        node = self.makers.get(name)
        if name not in self.values and node is not None and node.op_type == "Constant":
            tensors = [a.t for a in node.attribute if a.name == "value"]
            return numpy_helper.to_array(tensors[0]) if tensors else None
        return self.values.get(name)

    def _value(self, name: str) -> Tensor:
        return _tensor(self.values[name]) if name in self.values else self.own[name]


def _all_steps(program: OnnxProgram) -> Iterator[Step]:
    for step in program.steps:
        if step.op_type == "Call":
            part = program.get_submodule(step.name.removesuffix("/Call"))
            assert isinstance(part, OnnxProgram)
            yield from _all_steps(part)
        else:
            yield step


def _run(step: Step, given: Iterable[Tensor]) -> tuple[Tensor, ...]:
    try:
        return step(*given)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(_refusal(step, f"fails in PyTorch ({error})")) from error


def _refuse_difference(step: Step, ours: Tensor, theirs: np.ndarray, where: str = "") -> None:
    rtol = ACCUMULATED_RTOL if step.op_type in ACCUMULATING else RTOL
    difference = _difference(ours, theirs, rtol)
    if difference is not None:
        raise InputError(_refusal(step, difference + where))


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == np.float32 and array.flags.writeable and array.flags.c_contiguous:
        return torch.from_numpy(array)  # steps write nowhere: large activations need no copy
    return from_numpy(np.asarray(array))


def _difference(ours: Tensor, theirs: np.ndarray, rtol: float) -> str | None:
    """In words what differs, or None."""
    wanted = _tensor(theirs)
    if ours.shape != wanted.shape:
        return f"makes a tensor of shape {tuple(ours.shape)} where ONNX Runtime makes {tuple(wanted.shape)}"
    if not wanted.is_floating_point():
        same = bool(torch.equal(ours.to(wanted.dtype), wanted))
        return None if same else "makes other whole numbers than ONNX Runtime"
    if _is_near(ours, wanted, rtol):
        return None
    a, b = ours.double(), wanted.double()
    equal = (a == b) | (a.isnan() & b.isnan())
    error = torch.where(equal, 0.0, (a - b).abs())
    finite = b[b.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    worst = float(error.max()) if error.numel() else 0.0
    if worst <= rtol * scale:  # False for NaN
        return None
    return f"differs from ONNX Runtime by {worst:.3g} where values reach {scale:.3g}"


def _is_near(ours: Tensor, wanted: Tensor, rtol: float) -> bool:
    """Whether they are equal within ``rtol``, told without the memory of float64; False says nothing.

    In float32 a difference is rounded to 6e-8 of itself, and NaN or infinity anywhere makes it False.
    """
    if ours.dtype is not torch.float32 or wanted.dtype is not torch.float32 or not ours.numel():
        return False
    worst = _magnitude(ours - wanted)
    return worst == 0.0 or worst <= 0.999 * rtol * _magnitude(wanted) < float("inf")


def _magnitude(tensor: Tensor) -> float:
    low, high = torch.aminmax(tensor)  # three times as fast as abs().max(); NaN stays NaN
    return max(-float(low), float(high))


def _refusal(step: Step, difference: str) -> str:
    return (
        f"the import of operator {step.op_type} (node '{step.name}', which makes '{step.outputs[0]}') {difference}, "
        "so the model would not be the program's function; nothing was exported"
    )
