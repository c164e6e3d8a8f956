"""What is known of a pickle's parts without torch: tensors, storages, names, and objects that run nothing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

SIZES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int", "QInt32"), 4),
    **dict.fromkeys(("Half", "Short", "BFloat16"), 2),
    **dict.fromkeys(("Bool", "Byte", "Char", "QInt8", "QUInt8", "QUInt2x4", "QUInt4x2", "Untyped"), 1),
    "ComplexDouble": 16,
}
DTYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip


class Inert:
    """Stands for an object of any class: keeps its state, runs nothing."""

    name = ""

    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Unpickling calls this one, and not always ``__init__``."""
        made = super().__new__(cls)
        made.arguments = (args, kwargs)
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


@dataclass(frozen=True, slots=True)
class GlobalName:
    """A class or function that the pickle names."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageFact:
    """A stored block of ``numel`` elements of the named type ("Float")."""

    kind: str
    numel: int


@dataclass(frozen=True, slots=True)
class TensorFact:
    """What is known of a tensor without reading it."""

    shape: tuple[int, ...]
    dtype: str

    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def inert_of(name: str, arguments: tuple[Any, ...] = ()) -> Inert:
    """A stand-in for an object of the class ``name``."""
    made = Inert(*arguments)
    made.name = name
    return made


def is_plain_key(key: Any) -> bool:
    """Whether a dictionary key costs nothing to hash: a scalar, a name, an object, or a short flat tuple."""
    if isinstance(key, tuple):
        return len(key) <= 16 and all(not isinstance(k, tuple) and is_plain_key(k) for k in key)
    return key is None or isinstance(key, str | bytes | int | float | GlobalName | Inert)
