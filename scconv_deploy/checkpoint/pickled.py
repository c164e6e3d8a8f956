"""The bytes of a pickle -> a plain tree of dictionaries, lists, tensor facts and :class:`Inert` objects.

A symbolic reading of the pickle program: nothing is imported, called or constructed, so it needs neither
torch nor anyone's classes. It costs milliseconds where torch costs seconds, and it refuses what no ``torch.save``
writes and what would make torch's own restricted unpickler hang or exhaust memory (that one guards against
code, not against size): layers and storages constructed by call, tensors larger than their storage, shared
references that unfold exponentially, more instructions than any model has.
"""

from __future__ import annotations

import _compat_pickle
import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from scconv_deploy.errors import InputError

MAX_WORK = 8_000_000
"""Instructions plus unfolded references. A ResNet-101's checkpoint needs about 30,000."""

MAX_VIEW = 1 << 24
"""Elements up to which a tensor may repeat its storage (an expanded buffer is legal, a terabyte is not)."""

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
VIEWS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")


class Inert:
    """Stands for an object of any class: keeps its state, runs nothing."""

    name = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = (args, kwargs)

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


StorageSize = Callable[[str], int | None]
"""Key of a storage -> bytes stored under it, None where there is none."""

_MARK = object()


class PickleReader:
    """Reads one pickle; ``names`` collects every global it mentions, mapped to Python 3's module names."""

    def __init__(self, storage_size: StorageSize) -> None:
        self.names: dict[str, None] = {}
        self._storage_size = storage_size
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._weight: dict[int, int] = {}
        self._work = 0

    def read(self, data: bytes) -> tuple[Any, int]:
        """The tree, and the number of bytes up to the end of the pickle.

        Raises:
            InputError: damaged, or not what torch.save writes. The sentence has no subject: "calls ...".
        """
        try:
            for opcode, argument, position in pickletools.genops(data):
                self._spend(1)
                if opcode.name == "STOP":
                    return self._stack.pop(), (position or 0) + 1
                self._step(opcode.name, argument)
        except (
            ValueError,
            IndexError,
            KeyError,
            UnicodeError,
            TypeError,
            OverflowError,
            AttributeError,
        ) as e:
            raise InputError(f"is damaged: {' '.join(str(e).split())[:120] or type(e).__name__}") from e
        raise InputError("ends before its end mark")

    def _spend(self, amount: int) -> None:
        self._work += amount
        if self._work > MAX_WORK:
            raise InputError("unfolds into more parts than any model has (a decompression bomb)")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PLAIN:
            self._stack.append(_PLAIN[name])
        elif name in _LITERAL:
            self._stack.append(argument)
        elif name in ("GLOBAL", "INST"):
            self._global(argument)
            if name == "INST":
                raise InputError(f"constructs {self._stack[-1].name} in a way torch.save does not")
        elif name in _CONTAINERS:
            self._new(_CONTAINERS[name]())
        elif name == "MARK":
            self._stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            value = self._memo[argument]
            self._spend(self._weigh(value))
            self._stack.append(value)
        else:
            self._combine(name)

    def _combine(self, name: str) -> None:
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            parts = self._pop(count)
            self._new(tuple(parts), parts)
        elif name == "TUPLE":
            parts = self._pop_mark()
            self._new(tuple(parts), parts)
        elif name in ("APPEND", "APPENDS"):
            parts = self._pop(1) if name == "APPEND" else self._pop_mark()
            self._list(self._stack[-1], parts)
        elif name in ("SETITEM", "SETITEMS"):
            parts = self._pop(2) if name == "SETITEM" else self._pop_mark()
            self._set_items(self._stack[-1], parts)
        elif name in ("REDUCE", "NEWOBJ"):
            callee, arguments = self._pop(2)
            made = self._call(callee, arguments, construct=name == "NEWOBJ")
            if made is not arguments:
                self._new(made, [arguments])
            else:
                self._stack.append(made)
        elif name == "BUILD":
            (state,) = self._pop(1)
            self._build(self._stack[-1], state)
        elif name == "BINPERSID":
            self._new(self._storage(self._pop(1)[0]))
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop(2)
            self._global(f"{module} {attribute}")
            raise InputError(
                f"names {self._stack[-1].name} in a pickle protocol newer than torch.save's default"
            )
        elif name != "PROTO":
            raise InputError(
                f"uses the pickle instruction {name}, which torch.save does not write by default"
            )

    def _global(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        if not module or not attribute or " " in attribute or not argument.isprintable():
            raise InputError("names something that is no Python name")
        if (module, attribute) in _compat_pickle.NAME_MAPPING:
            module, attribute = _compat_pickle.NAME_MAPPING[(module, attribute)]
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        name = f"{module}.{attribute}"
        self.names[name] = None
        self._stack.append(GlobalName(name))

    def _call(self, callee: Any, arguments: Any, *, construct: bool) -> Any:
        if not isinstance(callee, GlobalName) or not isinstance(arguments, tuple):
            raise InputError("calls something that it computed, which torch.save never writes")
        name = callee.name
        if name == "torch.nn.parameter.Parameter" or name.startswith("torch._utils._rebuild_parameter"):
            return arguments[0] if arguments else Inert()
        if construct:
            return inert_of(name, arguments)
        if name == "torch._tensor._rebuild_from_type_v2":
            return self._call(arguments[0], arguments[2], construct=False)
        module, _, function = name.rpartition(".")
        if module == "torch._utils" and function in VIEWS:
            return self._view(arguments)
        if name in ("collections.OrderedDict", "collections.Counter"):
            made: dict[Any, Any] = {}
            for key, value in arguments[0] if arguments and isinstance(arguments[0], list) else ():
                self._set_items(made, [key, value])
            return made
        if name == "torch.Size" and len(arguments) == 1 and isinstance(arguments[0], tuple):
            return arguments[0]
        _refuse_calls_of_any_size(name, arguments)
        return inert_of(name, arguments)

    def _view(self, arguments: tuple[Any, ...]) -> TensorFact:
        storage, offset, shape = arguments[:3]
        whole = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 62 for n in shape)
        if not isinstance(storage, StorageFact) or not whole or type(offset) is not int or offset < 0:
            raise InputError("describes a tensor with a negative or senseless size")
        if prod(shape) > max(storage.numel, MAX_VIEW):
            raise InputError(
                f"declares a tensor of {prod(shape)} elements over a storage of {storage.numel} (forged)"
            )
        dtype = arguments[6].name.rpartition(".")[2] if len(arguments) > 7 else DTYPES.get(storage.kind)
        return TensorFact(shape, dtype or storage.kind.lower())

    def _storage(self, identity: Any) -> StorageFact:
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise InputError("refers to something outside of it that is no storage")
        _, kind, key, _, numel = identity[:5]
        if not isinstance(kind, GlobalName) or type(key) is not str or type(numel) is not int or numel < 0:
            raise InputError("describes a storage with a negative or senseless size")
        name = kind.name.rpartition(".")[2].removesuffix("Storage")
        if name not in SIZES:
            raise InputError(f"stores numbers of the unknown type {kind.name}")
        stored, needed = self._storage_size(key), numel * SIZES[name]
        if stored is None:
            raise InputError(f"refers to the storage {key[:60]!r}, which the file does not contain")
        if needed > stored:
            raise InputError(
                f"declares a storage of {needed} bytes where the file holds {stored} (cut short or forged)"
            )
        return StorageFact(name, numel)

    def _build(self, target: Any, state: Any) -> None:
        if isinstance(target, Inert):
            target.state = state
            self._heavier(target, [state])
        elif not isinstance(target, dict | TensorFact):
            raise InputError("sets the state of something that has none")

    def _list(self, target: Any, parts: list[Any]) -> None:
        if not isinstance(target, list):
            raise InputError("appends to something that is no list")
        target.extend(parts)
        self._heavier(target, parts)

    def _set_items(self, target: Any, parts: list[Any]) -> None:
        if not isinstance(target, dict) or len(parts) % 2:
            raise InputError("sets items of something that is no dictionary")
        for key in parts[::2]:
            if not _is_plain_key(key):
                raise InputError(f"uses a {type(key).__name__} as a key, which no model file needs")
        target.update(zip(parts[::2], parts[1::2], strict=True))
        self._heavier(target, parts)

    def _new(self, value: Any, parts: Sequence[Any] = ()) -> None:
        self._kept.append(value)
        self._weight[id(value)] = 1
        self._heavier(value, parts)
        self._stack.append(value)

    def _heavier(self, value: Any, parts: Sequence[Any]) -> None:
        weight = self._weight.get(id(value), 1) + sum(self._weigh(p) for p in parts)
        self._weight[id(value)] = min(weight, 2 * MAX_WORK)

    def _weigh(self, value: Any) -> int:
        return self._weight.get(id(value), 1)

    def _pop(self, count: int) -> list[Any]:
        parts = self._stack[-count:]
        if len(parts) < count or any(p is _MARK for p in parts):
            raise InputError("is damaged: it takes more values than it has")
        del self._stack[-count:]
        return parts

    def _pop_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                parts = self._stack[index + 1 :]
                del self._stack[index:]
                return parts
        raise InputError("is damaged: a mark is missing")


_PLAIN: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERAL = frozenset(("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"))
_CONTAINERS: Mapping[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}


def inert_of(name: str, arguments: tuple[Any, ...] = ()) -> Inert:
    """A stand-in for an object of the class ``name``."""
    made = Inert(*arguments)
    made.name = name
    return made


def _is_plain_key(key: Any) -> bool:
    if isinstance(key, tuple):
        return len(key) <= 16 and all(not isinstance(k, tuple) and _is_plain_key(k) for k in key)
    return key is None or isinstance(key, str | bytes | int | float | GlobalName | Inert)


def _refuse_calls_of_any_size(name: str, arguments: tuple[Any, ...]) -> None:
    """Refuse functions that torch's restricted unpickler allows, and that a few bytes can make huge."""
    sized = name.endswith(("Storage", "Tensor")) and name.startswith("torch.")
    own = name.startswith("scconv_deploy.") and not name.startswith("scconv_deploy.scconv.spec.")
    if own or name.startswith(("torch.nn.", "torch._C.")):
        raise InputError(f"calls {name} itself, which torch.save never writes")
    if (sized or name == "builtins.bytearray") and any(type(a) is int for a in arguments):
        raise InputError(f"calls {name} with a size, which torch.save never writes")
    if name == "_codecs.encode" and (len(arguments) != 2 or arguments[1] not in ("latin1", "latin-1")):
        raise InputError("encodes text with a codec that torch.save never uses")
