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
from typing import Any

from scconv_deploy.checkpoint.facts import (
    SIZES,
    GlobalName,
    Inert,
    StorageFact,
    TensorFact,
    inert_of,
    is_plain_key,
)
from scconv_deploy.checkpoint.trust import refuse_odd_call, refuse_odd_construction
from scconv_deploy.checkpoint.views import VIEWS, view_fact
from scconv_deploy.errors import InputError

MAX_WORK = 4_000_000
"""Instructions plus unfolded references. A ResNet-101's checkpoint needs 37,000, a pickled module 200 a layer."""

MAX_TUPLE_DEPTH = 100

SCRIPT_CALLS = frozenset(
    f"torch.jit._pickle.{name}"
    for name in (
        "build_intlist",
        "build_boollist",
        "build_doublelist",
        "build_tensorlist",
        "restore_type_tag",
    )
)
"""Calls by which TorchScript's pickles tell the type of a list; they build nothing else."""

StorageSize = Callable[[str], int | None]
"""Key of a storage -> bytes stored under it, None where there is none."""

NEWER = (
    "pickle protocol newer than torch.save's default, which torch's own restricted loader does not read; save it "
    "again without pickle_protocol"
)

_MARK = object()


class PickleReader:
    """Reads one pickle.

    ``names``: every global it mentions, by Python 3's module names. ``stored``: bytes of each storage by key.
    ``containers``: where a legacy file wraps a class (positions of the mark and of the persistent id).
    ``script``: whether it is one of TorchScript's, whose lists are made by calls of ``torch.jit._pickle``.
    """

    def __init__(self, storage_size: StorageSize, *, script: bool = False) -> None:
        self.names: dict[str, None] = {}
        self._script = script
        self._storage_size = storage_size
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._weight: dict[int, int] = {}
        self._depth: dict[int, int] = {}
        self.stored: dict[str, int] = {}
        self.containers: list[tuple[int, int]] = []
        self._marks: list[int] = []
        self._began: dict[int, int] = {}
        self._last_mark = self._position = 0
        self._work = 0

    def read(self, data: bytes) -> tuple[Any, int]:
        """The tree, and the number of bytes up to the end of the pickle.

        Raises:
            InputError: damaged, or not what torch.save writes. The sentence has no subject: "calls ...".
        """
        try:
            for opcode, argument, position in pickletools.genops(data):
                self._spend(1)
                self._position = position or 0
                if opcode.name == "STOP":
                    return self._pop(1)[0], (position or 0) + 1
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
            self._marks.append(self._position)
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
            self._tuple(self._pop(int(name[-1])))
        elif name == "TUPLE":
            self._tuple(self._pop_mark())
            self._began[id(self._stack[-1])] = self._last_mark
        elif name in ("APPEND", "APPENDS"):
            parts = self._pop(1) if name == "APPEND" else self._pop_mark()
            self._list(self._stack[-1], parts)
        elif name in ("SETITEM", "SETITEMS"):
            parts = self._pop(2) if name == "SETITEM" else self._pop_mark()
            self._set_items(self._stack[-1], parts)
        elif name in ("REDUCE", "NEWOBJ"):
            callee, arguments = self._pop(2)
            self._new(self._call(callee, arguments, construct=name == "NEWOBJ"), [arguments])
        elif name == "BUILD":
            (state,) = self._pop(1)
            self._build(self._stack[-1], state)
        elif name == "BINPERSID":
            self._new(self._storage(self._pop(1)[0], self._position))
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop(2)
            self._global(f"{module} {attribute}")
            raise InputError(f"names {self._stack[-1].name} in a {NEWER}")
        elif name in ("FRAME", "MEMOIZE", "SHORT_BINUNICODE"):
            raise InputError(f"is written in a {NEWER}")
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
            refuse_odd_construction(name)
            return inert_of(name, arguments)
        if name == "torch._tensor._rebuild_from_type_v2":
            return self._call(arguments[0], arguments[2], construct=False)
        module, _, function = name.rpartition(".")
        if module == "torch._utils" and function in VIEWS:
            return view_fact(arguments)
        if name in ("collections.OrderedDict", "collections.Counter"):
            made: dict[Any, Any] = {}
            for key, value in arguments[0] if arguments and isinstance(arguments[0], list) else ():
                self._set_items(made, [key, value])
            return made
        if name == "torch.Size" and len(arguments) == 1 and isinstance(arguments[0], tuple):
            return arguments[0]
        if self._script and name in SCRIPT_CALLS and arguments:
            return arguments[0]
        refuse_odd_call(name, arguments)
        return inert_of(name, arguments)

    def _storage(self, identity: Any, position: int) -> StorageFact | GlobalName:
        # Files before torch 1.6 wrap every module's class, to carry its source code along.
        if isinstance(identity, tuple) and identity[:1] == ("module",) and len(identity) == 4:
            if not isinstance(identity[1], GlobalName) or id(identity) not in self._began:
                raise InputError("describes a module without a class")
            self.containers.append((self._began[id(identity)], position))
            return identity[1]
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
        self.stored[key] = needed
        return StorageFact(name, numel)

    def _build(self, target: Any, state: Any) -> None:
        if isinstance(target, Inert):
            target.state = state
            self._heavier(target, [state])
        elif not isinstance(target, dict | TensorFact):
            raise InputError("sets the state of something that has none")

    def _tuple(self, parts: list[Any]) -> None:
        made = tuple(parts)
        depth = 1 + max((self._depth.get(id(p), 0) for p in parts), default=0)
        # Hashing a tuple recurses in C without a limit: a deep one in a set ends the process.
        if depth > MAX_TUPLE_DEPTH:
            raise InputError("nests tuples deeper than any model does")
        self._depth[id(made)] = depth
        self._new(made, parts)

    def _list(self, target: Any, parts: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(parts)
        elif not isinstance(target, Inert):  # a class made after a list: its items are not looked at
            raise InputError("appends to something that is no list")
        self._heavier(target, parts)

    def _set_items(self, target: Any, parts: list[Any]) -> None:
        if not isinstance(target, dict | Inert) or len(parts) % 2:
            raise InputError("sets items of something that is no dictionary")
        for key in parts[::2]:
            if not is_plain_key(key):
                raise InputError(f"uses a {type(key).__name__} as a key, which no model file needs")
        if isinstance(target, dict):
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
                self._last_mark = self._marks.pop()
                return parts
        raise InputError("is damaged: a mark is missing")


_PLAIN: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERAL = frozenset(("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"))
_CONTAINERS: Mapping[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
