"""The user's own module as a function on NumPy arrays, as it is and in float64 truth."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from scconv_deploy.artifacts import TensorSpec


class Reference:
    """Runs the user's module (a private copy in eval mode).

    Args:
        module: the user's module.
        inputs: names in the order of forward's arguments.
        outputs: names given to the flattened outputs.
        wide: run in float64, the truth that fp32 results are measured against.
    """

    def __init__(
        self, module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[str], wide: bool = False
    ) -> None:
        self.module = copy.deepcopy(module).eval()
        if wide:
            self.module = self.module.double()
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.wide = wide

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out."""
        return dict(zip(self.outputs, (t.numpy() for t in self._call(arrays)), strict=True))

    def trace(self, arrays: Mapping[str, np.ndarray], watched: Sequence[str]) -> Recording:
        """Run once and record the first input and output of every watched submodule, and its calls."""
        record = Recording()
        handles = []
        for path in watched:

            def hook(_module: nn.Module, given: tuple[Any, ...], made: Any, path: str = path) -> None:
                record.calls[path] = record.calls.get(path, 0) + 1
                if given and isinstance(given[0], torch.Tensor) and isinstance(made, torch.Tensor):
                    # Clones: a following in-place ReLU would overwrite what was recorded.
                    record.inputs[path] = given[0].detach().clone()
                    record.outputs[path] = made.detach().clone()

            handles.append(self.module.get_submodule(path).register_forward_hook(hook))
        try:
            record.results = dict(zip(self.outputs, (t.numpy() for t in self._call(arrays)), strict=True))
        finally:
            for handle in handles:
                handle.remove()
        return record

    def _call(self, arrays: Mapping[str, np.ndarray]) -> list[torch.Tensor]:
        given = []
        for spec in self.inputs:
            tensor = torch.from_numpy(np.ascontiguousarray(arrays[spec.name]))
            given.append(tensor.double() if self.wide and tensor.is_floating_point() else tensor.clone())
        with torch.no_grad():
            result = self.module(*given)
        return [leaf.detach() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


@dataclass
class Recording:
    """What one run of the reference passed through the watched submodules."""

    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    results: dict[str, np.ndarray] = field(default_factory=dict)


def joined(records: Sequence[Recording]) -> Recording:
    """Several runs as one: tensors put together along the batch axis; calls of the first run."""
    first = records[0]
    if len(records) == 1:
        return first
    return Recording(
        inputs={k: torch.cat([r.inputs[k] for r in records]) for k in first.inputs},
        outputs={k: torch.cat([r.outputs[k] for r in records]) for k in first.outputs},
        calls=first.calls,
        results={k: np.concatenate([r.results[k] for r in records]) for k in first.results},
    )
