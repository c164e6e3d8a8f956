"""A small pen for ONNX nodes: unique names under a module path, shared small constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

Size = int | str | None
"""An axis: its extent, a symbol, or unknown."""


class Writer:
    """Collects nodes and constants of one block.

    Args:
        path: module path; node names become ``<path>/<operator>_<n>``, as in the rest of the graph.
        dtype: ONNX element type of the activations.
        call: number of this block's expansion in the graph: a module that is called twice is written twice
            under one path, and its values must still have different names.
    """

    def __init__(self, path: str, dtype: int, call: int = 0, parent: Writer | None = None) -> None:
        self.path = path
        self.dtype = dtype
        self.call = call
        self.nodes: list[onnx.NodeProto] = [] if parent is None else parent.nodes
        self.tensors: dict[str, onnx.TensorProto] = {} if parent is None else parent.tensors
        self._root: str = path if parent is None else parent._root

    def inside(self, child: str) -> Writer:
        """A pen for a submodule, writing into the same lists."""
        return Writer(f"{self.path}.{child}" if self.path else child, self.dtype, self.call, self)

    def typed(self, dtype: int) -> Writer:
        """The same pen for values of another element type."""
        return Writer(self.path, dtype, self.call, self)

    def cast(self, value: str, dtype: int, to: int) -> str:
        """``value`` of type ``dtype`` as ``to``; nothing is written where the two are one."""
        return value if dtype == to else self.op("Cast", (value,), to=to)

    def op(self, kind: str, inputs: Sequence[str], out: str | None = None, **attributes: Any) -> str:
        """Write one single-output operator of the standard domain; returns its output's name."""
        return self._node(kind, inputs, [out or self._value(kind)], attributes)[0]

    def pair(self, kind: str, inputs: Sequence[str], **attributes: Any) -> tuple[str, str]:
        """Write one operator with two outputs; ``domain=`` names another domain than the standard one."""
        first = self._value(kind)
        made = self._node(kind, inputs, [f"{first}_0", f"{first}_1"], attributes)
        return made[0], made[1]

    def split(self, x: str, sizes: tuple[int, int]) -> tuple[str, str]:
        """Split along the channel axis into two pieces."""
        first = self._value("Split")
        made = [f"{first}_0", f"{first}_1"]
        lengths = self.constant(np.array(sizes, np.int64))
        self._node("Split", [x, lengths], made, {"axis": 1})
        return made[0], made[1]

    def constant(self, array: np.ndarray) -> str:
        """An initializer with this value; equal ones of a block are shared."""
        values = "_".join(str(v) for v in array.ravel().tolist())
        name = f"{self._root or 'model'}/{array.dtype.name}{list(array.shape)}_{values}".replace(" ", "")
        if name not in self.tensors:
            self.tensors[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def scalar(self, value: float) -> str:
        """A scalar of the activations' type."""
        return self.constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(self.dtype)))

    def filled(self, value: float, count: int) -> str:
        """A vector of ``count`` equal values of the activations' type, named shortly."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.dtype)
        name = f"{self._root or 'model'}/{dtype.name}_filled[{count}]_{value}"
        if name not in self.tensors:
            self.tensors[name] = onnx.numpy_helper.from_array(np.full(count, value, dtype), name)
        return name

    def _value(self, kind: str) -> str:
        return f"{self.path or 'model'}/{kind}_{self.call}_{len(self.nodes)}_out"

    def _node(
        self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: dict[str, Any]
    ) -> list[str]:
        name = f"{self.path}/{kind}_{len(self.nodes)}" if self.path else f"{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs
