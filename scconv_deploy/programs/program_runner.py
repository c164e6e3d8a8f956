"""A program that torch runs (``ExportedProgram.module()``, a ScriptModule) -> a :class:`Runner` on NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_flatten_with_path

from scconv_deploy.artifacts import TensorSpec
from scconv_deploy.errors import InputError
from scconv_deploy.inputs import example_tensors, reason


def named(result: object) -> list[tuple[str, torch.Tensor]]:
    """Every tensor of a result by the name that an exported graph gives it; floating ones as float32.

    Dictionary keys where there are any, else ``output``, or ``output_0``, ``output_1``...
    """
    found = []
    for path, leaf in tree_flatten_with_path(result)[0]:
        if isinstance(leaf, torch.Tensor):
            name = (
                "_".join(str(getattr(k, "key", f"output_{getattr(k, 'idx', 0)}")) for k in path) or "output"
            )
            found.append((name, leaf.detach().float() if leaf.is_floating_point() else leaf.detach()))
    return found


class ModuleRunner:
    """Runs the program itself.

    Args:
        module: takes the inputs by position and returns a tree of tensors.
        inputs: names, dtypes and shapes in the order of the program's arguments.
        origin: for messages.

    Outputs are named as :func:`named` does, in the program's order. Floating inputs of another width are converted
    to what the program takes.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[TensorSpec], origin: str) -> None:
        self.module = module
        self.inputs = tuple(inputs)
        self.origin = origin
        floating = [t.dtype for t in [*module.parameters(), *module.buffers()] if t.is_floating_point()]
        self.dtype = floating[0] if floating else torch.float32

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The program's output tensors, flattened; floating ones as float32.

        Raises:
            InputError: the program refuses these inputs.
        """
        return [tensor for _, tensor in named(self.result(*tensors))]

    def result(self, *tensors: torch.Tensor) -> object:
        """What the program itself returns.

        Raises:
            InputError: the program refuses these inputs.
        """
        given = [t.to(self.dtype) if t.is_floating_point() else t for t in tensors]
        try:
            with torch.no_grad():
                return self.module(*given)
        except Exception as error:
            shapes = ", ".join(
                f"{s.name} {tuple(t.shape)}" for s, t in zip(self.inputs, tensors, strict=False)
            )
            raise InputError(f"{self.origin} does not run on {shapes}: {reason(error)}") from error

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once on named arrays.

        Raises:
            InputError: an input is missing or unknown, or the program refuses its shape.
        """
        names = [s.name for s in self.inputs]
        if set(inputs) != set(names):
            raise InputError(f"{self.origin} takes the inputs {', '.join(names)}, not {', '.join(inputs)}")
        # Copies: a program may write into its inputs.
        result = self.result(*(torch.from_numpy(np.array(inputs[name])) for name in names))
        return {name: tensor.contiguous().numpy() for name, tensor in named(result)}

    def check_runs(self, seed: int) -> None:
        """Run once on seeded inputs of the optimum shapes.

        Raises:
            InputError: the program does not run here.
        """
        self(*example_tensors(self.inputs, seed))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""
