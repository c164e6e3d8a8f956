"""An unflattened program -> a plain module tree: inputs by position, nothing in it but weights and graphs.

What torch returns keeps the tracing's fake tensors, symbols and tree specifications on its nodes and cannot be copied;
the pipeline works on private copies only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import fx, nn
from torch.export.unflatten import UnflattenedModule
from torch.utils._pytree import TreeSpec, tree_unflatten


class ProgramModule(nn.Module):
    """The root of a program. Its submodules lie at the user's own paths.

    ``forward`` takes the program's tensors by position and returns its own tree of outputs.
    """

    def __init__(self, program: UnflattenedModule) -> None:
        super().__init__()
        call = program.module_call_graph[0].signature
        if call is None:
            raise ValueError("the program says no signature of its own")
        self.outputs = _Tree(call.out_spec)
        for name, value in vars(program).items():
            if isinstance(value, torch.Tensor):  # lifted constants
                setattr(self, name, value)
        self._parameters, self._buffers = program._parameters, program._buffers
        self._non_persistent_buffers_set = program._non_persistent_buffers_set
        self._modules = program._modules
        self.graph = _bare(program.graph)
        for child in self.modules():
            graph = getattr(child, "graph", None)
            shadow = vars(child).get("graph_module")
            for found in (graph, getattr(shadow, "graph", None)):
                if isinstance(found, fx.Graph):
                    _bare(found)

    def run(self, *inputs: torch.Tensor) -> Any:
        """Run the program on its inputs in order."""
        made = fx.Interpreter(self, graph=self.graph).run(*inputs, enable_io_processing=False)
        return self.outputs.unflatten(made if isinstance(made, list | tuple) else [made])


def program_module(program: UnflattenedModule, names: Sequence[str]) -> ProgramModule:
    """The module tree of ``program``, whose forward has arguments of these names.

    torch.export relates dynamic shapes to arguments by forward's signature; ``*inputs`` would be one argument.
    """

    def forward(self: ProgramModule, *inputs: torch.Tensor) -> Any:
        return self.run(*inputs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *names)]
    vars(forward)["__signature__"] = inspect.Signature(parameters)
    made = type("ProgramModule", (ProgramModule,), {"forward": forward})
    return cast(ProgramModule, made(program))


class _Tree:
    """A tree specification; a copy of a module shares it, since it never changes."""

    def __init__(self, spec: TreeSpec) -> None:
        self.spec = spec

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        return tree_unflatten(list(leaves), self.spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Tree:
        return self


def _bare(graph: fx.Graph) -> fx.Graph:
    """The graph without what tracing noted on its nodes."""
    for node in graph.nodes:
        cast(dict[str, Any], node.meta).clear()
    return graph
