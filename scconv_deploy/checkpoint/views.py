"""The arguments of torch's ``_rebuild_tensor`` -> the fact of a tensor, if its storage can hold it."""

from __future__ import annotations

from math import prod
from typing import Any

from scconv_deploy.checkpoint.facts import DTYPES, GlobalName, StorageFact, TensorFact
from scconv_deploy.errors import InputError

MAX_VIEW = 1 << 24
"""Elements up to which a tensor may repeat its storage (an expanded buffer is legal, a terabyte is not)."""

VIEWS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
"""Functions of ``torch._utils`` that take storage, offset, shape and strides first."""


def view_fact(arguments: tuple[Any, ...]) -> TensorFact:
    """The tensor that a rebuild call would make.

    Raises:
        InputError: a senseless size, or one beyond its storage. The sentence has no subject.
    """
    storage, offset, shape, stride = arguments[:4]
    numbers = (offset, *shape, *stride) if isinstance(shape, tuple) and isinstance(stride, tuple) else (-1,)
    whole = all(type(n) is int and 0 <= n < 1 << 62 for n in numbers) and len(shape) == len(stride)
    if not isinstance(storage, StorageFact) or not whole:
        raise InputError("describes a tensor with a negative or senseless size")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if prod(shape) and last >= storage.numel:
        raise InputError(
            f"describes a tensor that reaches element {last} of a storage of {storage.numel} (forged)"
        )
    if prod(shape) > max(storage.numel, MAX_VIEW):
        raise InputError(
            f"declares a tensor of {prod(shape)} elements over a storage of {storage.numel} (forged)"
        )
    # Types without a storage class of their own are named beside it.
    told = [a.name.rpartition(".")[2] for a in arguments[6:7] if isinstance(a, GlobalName)]
    return TensorFact(shape, (told or [DTYPES.get(storage.kind, storage.kind.lower())])[0])
