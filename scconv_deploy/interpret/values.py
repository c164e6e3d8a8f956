"""What flows between the steps of an interpreted graph: tensors, and integers known while the graph runs.

Shape arithmetic (``Shape -> Gather -> Concat -> Reshape``) is carried as Python numbers (:class:`Host`), not
as tensors: so ``torch.export`` sees the ``SymInt`` of a dynamic size instead of data it cannot look into.
:class:`FloatTypes` says which torch type stands for each floating type that the graph names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from scconv_deploy.errors import InputError

TORCH_TYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BOOL: torch.bool,
}
"""ONNX element type -> torch type; what is missing here (strings, complex, 4 bit and most 8 bit floats) is refused."""

HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Host:
    """A 0-d or 1-d tensor whose elements are Python numbers (or torch SymInts while tracing).

    ``shape`` is ``()`` or ``(n,)``; ``dtype`` is the torch type of the tensor it stands for.
    """

    items: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self, device: torch.device) -> Tensor:
        """The tensor it stands for."""
        if all(isinstance(item, (int, float)) for item in self.items):
            return torch.tensor(self.items, dtype=self.dtype, device=device).reshape(self.shape)
        scalars = [torch.scalar_tensor(item, dtype=self.dtype, device=device) for item in self.items]
        return torch.stack(scalars).reshape(self.shape)

    def scalar(self) -> Any:
        """Its one element."""
        if len(self.items) != 1:
            raise InputError(f"the graph uses a list of {len(self.items)} numbers where one is needed")
        return self.items[0]


Value: TypeAlias = Tensor | Host | None
"""A step's argument; None stands for an optional input that the node leaves out."""


@dataclass(frozen=True, slots=True)
class FloatTypes:
    """Which torch type stands for a floating type of the graph.

    ``everything`` is None where each keeps its own; else the one type that stands for all of them: the
    lifted type, or what the module was cast to (``program.half()``).
    """

    everything: torch.dtype | None = None

    def torch_type(self, element_type: int) -> torch.dtype:
        """Torch type for an ONNX element type. Raises InputError where torch has none."""
        if element_type not in TORCH_TYPES:
            name = TensorProto.DataType.Name(element_type)
            raise InputError(f"the ONNX graph uses tensors of type {name}, which cannot be run in PyTorch")
        return self.of(TORCH_TYPES[element_type])

    def of(self, dtype: torch.dtype) -> torch.dtype:
        """Torch type that stands for ``dtype``."""
        return self.everything if self.everything is not None and dtype.is_floating_point else dtype


@dataclass(frozen=True, slots=True)
class Call:
    """What a step may use besides its inputs: types, device, and the child module that belongs to it."""

    types: FloatTypes
    device: torch.device
    module: nn.Module | None = None

    def tensor(self, value: Value) -> Tensor:
        """``value`` as a tensor of the type that stands for its own."""
        if isinstance(value, Tensor):
            return value
        if value is None:
            raise InputError("the graph leaves out an input that its operator needs")
        made = value.tensor(self.device)
        return made.to(self.types.of(made.dtype))

    def optional(self, value: Value) -> Tensor | None:
        """``value`` as a tensor, or None where it is left out."""
        return None if value is None else self.tensor(value)


def numbers(value: Value) -> list[Any]:
    """Elements of a small integer input: a shape, axes, pads. Raises InputError where it is left out."""
    if isinstance(value, Host):
        return list(value.items)
    if value is None:
        raise InputError("the graph leaves out a list of integers that its operator needs")
    listed = value.reshape(-1).tolist()
    return list(listed)


def host_of(tensor: Tensor, limit: int = 4096) -> Host | None:
    """The numbers of a small 0-d or 1-d tensor whose elements can be looked at, else None."""
    if tensor.ndim > 1 or tensor.numel() > limit:
        return None
    return Host(tuple(tensor.reshape(-1).tolist()), tuple(tensor.shape), tensor.dtype)


def is_traced(*values: object) -> bool:
    """Whether torch is recording what is done (fake or functional tensors) rather than computing."""
    if torch.compiler.is_exporting() or torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return True
    return any(isinstance(v, Tensor) and type(v) not in (Tensor, nn.Parameter) for v in values)


def from_proto(proto: onnx.TensorProto, types: FloatTypes) -> Tensor:
    """A stored ONNX tensor as a torch tensor of the type that stands for its own; memory is not shared."""
    dtype = types.torch_type(proto.data_type)
    return from_numpy(numpy_helper.to_array(proto)).to(dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A copy of a NumPy array, ``ml_dtypes.bfloat16`` included."""
    array = np.array(array)  # copied: torch wants writable, aligned memory
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype.name == "float8_e4m3fn":
        return torch.from_numpy(array.view(np.uint8)).view(torch.float8_e4m3fn)
    return torch.from_numpy(array)
