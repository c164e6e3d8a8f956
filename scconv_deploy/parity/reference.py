"""The user's own module as a function on NumPy arrays, as it is and in float64 truth."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from scconv_deploy.artifacts import TensorSpec

REMEMBERED = 2**20
"""Output elements kept of the latest runs (but always the last): the golden samples, the pieces and a case of
the end-to-end comparison are one batch, and whether the module runs in float64 is tried on a case, too."""


class Reference:
    """Runs the user's module (a private copy in eval mode).

    Args:
        module: the user's module.
        inputs: names in the order of forward's arguments.
        outputs: names given to the flattened outputs.
        dtype: run in this floating type: float64 is the truth that results are measured against, a 16-bit
            type what PyTorch itself makes of it. None is the user's float32.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[str],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.module = copy.deepcopy(module).eval()
        if dtype is not None:
            self.module = self.module.to(dtype)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.dtype = dtype
        self._known: dict[bytes, dict[str, np.ndarray]] = {}

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out; what was run lately is remembered (see :data:`REMEMBERED`)."""
        key = _digest(arrays)
        if key not in self._known:
            self._remember(key, self._named(arrays))
        return dict(self._known[key])

    def try_run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """As :meth:`run`; None where the module does not run in this type."""
        try:
            return self.run(arrays)
        except Exception:  # noqa: BLE001 - user code in a type it was not written for may raise anything
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

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
            record.results = self._named(arrays)
        finally:
            for handle in handles:
                handle.remove()
        self._remember(_digest(arrays), record.results)
        return record

    def _named(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, (_array(t) for t in self._call(arrays)), strict=True))

    def _remember(self, key: bytes, results: dict[str, np.ndarray]) -> None:
        self._known[key] = results
        while len(self._known) > 1 and sum(_size(r) for r in self._known.values()) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def _call(self, arrays: Mapping[str, np.ndarray]) -> list[torch.Tensor]:
        given = []
        for spec in self.inputs:
            tensor = torch.from_numpy(np.ascontiguousarray(arrays[spec.name]))
            floating = tensor.is_floating_point()
            given.append(tensor.to(self.dtype or torch.float32, copy=True) if floating else tensor.clone())
        with torch.no_grad():
            result = self.module(*given)
        return [leaf.detach() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def _digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Equal for equal inputs: names, types, shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in arrays.items():
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.digest()


def _size(results: Mapping[str, np.ndarray]) -> int:
    return sum(a.size for a in results.values())


def _array(tensor: torch.Tensor) -> np.ndarray:
    """NumPy has no bfloat16: 16-bit results are widened, which loses nothing."""
    wide = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    return np.asarray(wide.numpy())


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
