"""An ONNX graph as an ``nn.Module`` that torch runs operator by operator.

The module has the graph's function in the graph's own types (half arithmetic rounds after every operator),
or *lifted* to wider ones. Constant weights are ordinary child modules and parameters, so that the rest of
the pipeline (batch-norm folding, casting, ``torch.export``) works on it as on any network.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import onnx
import torch
from torch import Tensor, nn

from scconv_deploy.errors import InputError, first_line
from scconv_deploy.interpret.assembly import Assembly, Plan, assemble, last_reads, register_child
from scconv_deploy.interpret.names import CONTAINER, keys
from scconv_deploy.interpret.values import Call, FloatTypes, Host, Value, host_of, is_traced


def unsupported(model: onnx.ModelProto) -> tuple[str, ...]:
    """One phrase for each node that cannot be run (``"NonMaxSuppression (node 'x')"``); empty: all can.

    Call nodes of the domain ``scconv_deploy`` count as runnable.
    """
    return tuple(assemble(model, FloatTypes(), _Anything()).refusals)


class _Anything(dict[str, nn.Module]):
    """Parts under every path: for the question whether a graph could be run."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> nn.Module:
        return nn.Identity()


@dataclass(frozen=True, slots=True)
class Step:
    """One node, runnable by itself: ``step(*tensors)`` with one tensor for each name in ``inputs``."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    """Values that it reads and that are not constants of the graph."""
    outputs: tuple[str, ...]
    run: Callable[..., tuple[Tensor, ...]]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The step's outputs, as tensors, without gradients."""
        return self.run(*tensors)


class OnnxProgram(nn.Module):
    """An ONNX model run by torch.

    Args:
        model: any opset from 7 on; external data loaded. It is not modified.
        lift: one type for all floating types of the graph: initializers, constants, inputs and casts are
            widened to it. None keeps each type as the graph states it.
        parts: modules that run ``scconv_deploy::Call`` nodes, by the path in the node's attribute.

    After ``program.half()``, ``.double()`` or ``.to(dtype)`` every floating type of the graph is that type.

    Raises:
        InputError: a node cannot be run in PyTorch; the message names all of them.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        lift: torch.dtype | None = None,
        parts: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        made = assemble(model, FloatTypes(lift), parts or {})
        if made.refusals:
            raise InputError(
                "the ONNX graph has operators that cannot be run in PyTorch here: "
                f"{'; '.join(made.refusals)}; export the model again without them"
            )
        self.input_names: tuple[str, ...] = tuple(made.input_types)
        self.output_names: tuple[str, ...] = made.output_names
        self.opset = made.opset
        self._types = FloatTypes(lift)
        self._input_types = made.input_types
        self._plans = tuple(made.plans)
        for path, module in made.modules.items():
            register_child(self, path, module)
        self._hosts, self._keys = self._hold_constants(made)
        self._last_reads = last_reads(self._plans, self.output_names)
        self.__class__ = _with_arguments(len(self.input_names))
        self.eval()

    @property
    def float_type(self) -> torch.dtype | None:
        """The one floating type that everything is in (lifted or cast), or None: the graph's own types."""
        return self._types.everything

    @property
    def steps(self) -> tuple[Step, ...]:
        """One step for each node that is not a constant of the graph, in order."""
        return tuple(self._step(plan) for plan in self._plans)

    def forward(self, *inputs: Tensor) -> Any:
        """Inputs and outputs in the graph's order; a single output is returned bare.

        Raises:
            InputError: a wrong number of inputs, or an operator failed on them.
        """
        if len(inputs) != len(self.input_names):
            raise InputError(
                f"the ONNX graph takes {len(self.input_names)} inputs "
                f"({', '.join(self.input_names)}), {len(inputs)} were given"
            )
        values = self._started(dict(zip(self.input_names, inputs, strict=True)))
        device = _device(inputs)
        for plan, over in zip(self._plans, self._last_reads, strict=True):
            self._execute(plan, values, device)
            for name in over:
                values.pop(name, None)
        call = Call(self._types, device)
        outputs = tuple(call.tensor(self._value(name, values)) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    @torch.no_grad()
    def evaluate(
        self, inputs: Mapping[str, Tensor], wanted: Sequence[str], forced: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Inner values by their ONNX names; only the steps that they need are run.

        Args:
            inputs: one tensor for each graph input that is needed.
            wanted: names of inputs, inner values or outputs.
            forced: values that replace the graph's own wherever they are read.

        Raises:
            InputError: a name that is no value of the graph, or a missing input.
        """
        forced = forced or {}
        made_here = {name for plan in self._plans for name in plan.outputs}
        known = made_here | set(self.input_names) | set(self._keys) | set(self._hosts)
        for name in [*wanted, *forced, *inputs]:
            if name not in known:
                raise InputError(f"the ONNX graph has no value '{name}'")
        values = self._started({**inputs, **forced})
        needed = self._needed(wanted, set(forced))
        missing = [n for n in self.input_names if n in needed and n not in values]
        if missing:
            raise InputError(f"inputs {', '.join(missing)} of the ONNX graph are missing")
        device = _device(values.values())
        for plan in self._plans:
            if any(name in needed and name not in forced for name in plan.outputs):
                self._execute(plan, values, device, kept=forced)
        call = Call(self._types, device)
        return {name: call.tensor(self._value(name, values)) for name in wanted}

    def _needed(self, wanted: Iterable[str], given: set[str]) -> set[str]:
        needed = set(wanted)
        for plan in reversed(self._plans):
            if any(name in needed and name not in given for name in plan.outputs):
                needed.update(plan.reads())
        return needed

    def _started(self, given: Mapping[str, Tensor]) -> dict[str, Value]:
        """Floating inputs in the type that stands for theirs; nothing is changed in place."""
        started: dict[str, Value] = {}
        for name, tensor in given.items():
            wide = self._types.of(tensor.dtype)
            started[name] = tensor if wide is tensor.dtype else tensor.to(wide)
        return started

    def _execute(
        self,
        plan: Plan,
        values: dict[str, Value],
        device: torch.device,
        kept: Mapping[str, Tensor] | None = None,
    ) -> None:
        arguments = [
            None if not name or i in plan.taken else self._value(name, values)
            for i, name in enumerate(plan.inputs)
        ]
        module = None if plan.module is None else self.get_submodule(plan.module)
        call = Call(self._types, device, module)
        try:
            results = plan.execute(call, arguments, self._hosts)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            if is_traced(*arguments):
                raise  # torch's own messages about symbolic sizes are what the caller needs
            raise InputError(
                f"operator {plan.op_type} of the ONNX graph (node '{plan.name}') failed in PyTorch: "
                f"{first_line(error)}"
            ) from error
        made = zip(plan.outputs, results, strict=False)
        values.update({name: value for name, value in made if name and name not in (kept or {})})

    def _value(self, name: str, values: Mapping[str, Value]) -> Value:
        if name in values:
            return values[name]
        if name in self._keys:
            held: Tensor = getattr(self._modules[CONTAINER], self._keys[name])
            return held
        if name in self._hosts:
            return self._hosts[name]
        raise InputError(f"the ONNX graph reads '{name}', which nothing makes")

    def _step(self, plan: Plan) -> Step:
        inputs = tuple(n for n in plan.reads() if n not in self._keys and n not in self._hosts)

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            if len(tensors) != len(inputs):
                raise InputError(f"step '{plan.name}' takes {', '.join(inputs)}; {len(tensors)} were given")
            values: dict[str, Value] = {}
            for name, tensor in self._started(dict(zip(inputs, tensors, strict=True))).items():
                small = isinstance(tensor, Tensor) and not tensor.is_floating_point()
                values[name] = (host_of(tensor) or tensor) if small and isinstance(tensor, Tensor) else tensor
            device = _device(tensors)
            with torch.no_grad():
                self._execute(plan, values, device)
            call = Call(self._types, device)
            return tuple(call.tensor(values[n]) for n in plan.outputs if n and n in values)

        return Step(plan.name, plan.op_type, inputs, tuple(n for n in plan.outputs if n), run)

    def _hold_constants(self, made: Assembly) -> tuple[dict[str, Host], dict[str, str]]:
        """Register the constants that steps or outputs read; numbers stay numbers."""
        read = {n for plan in made.plans for n in plan.reads()} | set(made.output_names)
        wanted = [n for n in made.constants if n in read]
        hosts: dict[str, Host] = {}
        tensors: dict[str, Tensor] = {}
        for name in wanted:
            constant = made.constants[name]
            if isinstance(constant, Host):
                hosts[name] = constant
                continue
            tensors[name] = constant
            small = host_of(constant, limit=16)
            if small is not None:
                hosts[name] = small
        named = keys(tensors)
        if tensors:
            holder = nn.Module()
            for name, tensor in tensors.items():
                if tensor.is_floating_point():
                    holder.register_parameter(named[name], made.parameter(name))
                else:
                    holder.register_buffer(named[name], tensor)
            self.add_module(CONTAINER, holder)
        return hosts, named

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Hear of casts: where ``fn`` makes all floating types one, that one is the program's from now on."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        made = {fn(torch.empty(0, dtype=t)).dtype for t in (torch.float16, torch.bfloat16, torch.float32)}
        if len(made) == 1:
            self._types = FloatTypes(made.pop())
        return self


@cache
def _with_arguments(count: int) -> type[OnnxProgram]:
    """The class with so many named arguments: torch.export relates dynamic shapes to forward's signature.

    ``*inputs`` would be one argument there, and its shapes would have to be nested.
    """

    def forward(self: OnnxProgram, *inputs: Tensor) -> Any:
        return OnnxProgram.forward(self, *inputs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ("self", *(f"input_{i}" for i in range(count)))
    vars(forward)["__signature__"] = inspect.Signature([inspect.Parameter(n, kind) for n in names])
    return type("OnnxProgram", (OnnxProgram,), {"forward": forward, "__doc__": OnnxProgram.__doc__})


def _device(tensors: Iterable[object]) -> torch.device:
    return next((t.device for t in tensors if isinstance(t, Tensor)), torch.device("cpu"))
