"""An ONNX model -> a runner in torch's arithmetic: named NumPy arrays in, named NumPy arrays out.

ONNX Runtime's CPU provider computes half graphs in float32, which hides what half precision does. This
runner rounds every operator's result to the type the graph states (or computes all in a wider type).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import ml_dtypes
import numpy as np
import onnx
import torch
from torch import Tensor

from scconv_deploy.errors import InputError
from scconv_deploy.interpret.program import OnnxProgram
from scconv_deploy.interpret.values import TORCH_TYPES, from_numpy


class TorchRunner:
    """Runs an ONNX model operator by operator in torch; a context manager that holds nothing but memory.

    Args:
        model: the model or its serialised bytes.
        lift: see :class:`~scconv_deploy.interpret.program.OnnxProgram`; outputs then have that type.

    Raises:
        InputError: the bytes are no ONNX model, or an operator cannot be run in PyTorch.
    """

    def __init__(self, model: onnx.ModelProto | bytes, *, lift: torch.dtype | None = None) -> None:
        if isinstance(model, bytes):
            try:
                model = onnx.load_model_from_string(model)
            except Exception as error:
                raise InputError("the bytes are not an ONNX model") from error
        self.program = OnnxProgram(model, lift=lift)
        self.input_names = self.program.input_names
        self.output_names = self.program.output_names
        graph_inputs = {i.name: i.type.tensor_type for i in model.graph.input}
        self._inputs = {name: graph_inputs[name] for name in self.input_names}
        self._lift = lift
        self._float_types = _float_types(model)

    @property
    def arithmetic(self) -> str:
        """In words: "torch float16, operator by operator"."""
        if self._lift is not None:
            return f"torch {_name(self._lift)} throughout (lifted), operator by operator"
        return f"torch {' and '.join(self._float_types)}, operator by operator"

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once. Raises InputError for wrong names, dtypes or shapes."""
        self._check(inputs)
        given = {name: from_numpy(array) for name, array in inputs.items()}
        found = self.program.evaluate(given, self.output_names)
        return {name: to_numpy(tensor) for name, tensor in found.items()}

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        if set(inputs) != set(self.input_names):
            raise InputError(
                f"the graph takes inputs {', '.join(self.input_names)}; given were {', '.join(inputs)}"
            )
        for name, kind in self._inputs.items():
            array, wanted = inputs[name], TORCH_TYPES.get(kind.elem_type)
            if wanted is not None and array.dtype.name != _name(wanted):
                raise InputError(f"input '{name}' is {array.dtype}; the graph takes {_name(wanted)}")
            sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            fits = len(sizes) == array.ndim and all(
                s is None or s == n for s, n in zip(sizes, array.shape, strict=True)
            )
            if kind.HasField("shape") and not fits:
                shape = "x".join("?" if s is None else str(s) for s in sizes)
                raise InputError(f"input '{name}' has shape {array.shape}; the graph takes {shape}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A NumPy array of the same type; bfloat16 as ``ml_dtypes.bfloat16``."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _float_types(model: onnx.ModelProto) -> tuple[str, ...]:
    """Floating types of the graph's inputs, outputs and stored constants, each once."""
    graph = model.graph
    values = [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)]
    kinds = [*values, *(t.data_type for t in graph.initializer)]
    found = [TORCH_TYPES[k] for k in kinds if k in TORCH_TYPES and TORCH_TYPES[k].is_floating_point]
    return tuple(dict.fromkeys(_name(t) for t in found)) or ("integers",)
