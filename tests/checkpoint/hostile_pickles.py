"""Hostile pickles: calls in every position, forged tensors, structures that never end."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import torch

from tests.checkpoint.assembly import (
    GOOD,
    LEGACY_HEAD,
    call,
    integer,
    kind,
    mapping,
    module_with,
    named,
    storage,
    system,
    tensor,
    text,
    zipped,
)


def _position(name: str, program: Callable[[bytes], bytes]) -> None:
    kind(f"a call of posix.system {name}", executes=True)(lambda path, w: zipped(path, program(system(w))))


_position("at the top", lambda p: p)
_position("as a value", lambda p: mapping(w=GOOD, x=p))
_position("as a key", lambda p: b"}" + p + b"Ns")
_position("in a list", lambda p: mapping(w=GOOD, x=b"]" + p + b"a"))
_position("in a module's state", lambda p: module_with(mapping(_parameters=b"}", _modules=b"}", x=p)))
_position("as a storage's type", lambda p: mapping(w=tensor(storage(4, kind=p), 0, (2, 2), (2, 1))))
_position("as a parameter's hook", lambda p: call("torch._utils", "_rebuild_parameter", GOOD, b"\x88", p))
_position("that is popped again", lambda p: p + b"0" + mapping(w=GOOD))


@kind("eval", executes=True)
def _eval(path: Path, witness: Path) -> None:
    zipped(path, call("builtins", "eval", text(f"open({str(witness)!r}, 'w').close()")))


@kind("exec by its old name", executes=True)
def _exec(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD, x=call("__builtin__", "exec", text(f"open({str(witness)!r}, 'w').close()"))))


@kind("subprocess.Popen", executes=True)
def _popen(path: Path, witness: Path) -> None:
    zipped(path, call("subprocess", "Popen", b"](" + text("touch") + text(str(witness)) + b"e"))


@kind("getattr to a system call", executes=True)
def _getattr(path: Path, witness: Path) -> None:
    found = call("builtins", "getattr", call("importlib", "import_module", text("os")), text("system"))
    zipped(path, found + b"(" + text(f"touch {witness}") + b"tR")


@kind("functools.partial of a system call", executes=True)
def _partial(path: Path, witness: Path) -> None:
    made = call("functools", "partial", named("posix", "system"), text(f"touch {witness}"))
    zipped(path, made + b")R")


@kind("operator.methodcaller", executes=True)
def _methodcaller(path: Path, witness: Path) -> None:
    made = call("operator", "methodcaller", text("system"), text(f"touch {witness}"))
    zipped(path, made + b"(" + call("importlib", "import_module", text("os")) + b"tR")


@kind("operator.attrgetter")
def _attrgetter(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD, x=call("operator", "attrgetter", text("__globals__"))))


@kind("torch.hub.load")
def _hub(path: Path, witness: Path) -> None:
    zipped(path, call("torch.hub", "load", text("evil/repository"), text("model")))


@kind("torch.load of another file")
def _load(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD, x=call("torch.serialization", "load", text(str(path)))))


@kind("torch.storage._load_from_bytes", executes=True)
def _from_bytes(path: Path, witness: Path) -> None:
    inner = LEGACY_HEAD + b"\x80\x02" + system(witness) + b"." + pickle.dumps([], 2)
    raw = inner.decode("latin1")
    zipped(
        path, call("torch.storage", "_load_from_bytes", call("_codecs", "encode", text(raw), text("latin1")))
    )


@kind("a call of a torch function on paths")
def _torch_function(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=call("torch", "from_file", text(str(witness)), b"\x88", integer(1 << 20))))


@kind("__setstate__ of an unknown class")
def _setstate(path: Path, witness: Path) -> None:
    zipped(path, named("no_such_module", "Net") + b")\x81" + system(witness) + b"b")


@kind("INST", executes=True)
def _inst(path: Path, witness: Path) -> None:
    zipped(path, b"(" + text(f"touch {witness}") + b"iposix\nsystem\n")


@kind("OBJ", executes=True)
def _obj(path: Path, witness: Path) -> None:
    zipped(path, b"(" + named("posix", "system") + text(f"touch {witness}") + b"o")


@kind("STACK_GLOBAL", executes=True)
def _stack_global(path: Path, witness: Path) -> None:
    name = b"\x8c\x05posix\x8c\x06system\x93"
    zipped(path, name + b"(" + text(f"touch {witness}") + b"tR")


@kind("an extension code")
def _extension(path: Path, witness: Path) -> None:
    zipped(path, b"\x82\x01")


@kind("a second pickle after the first")
def _stacked(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD) + b".\x80\x02" + system(witness))


@kind("a plain pickle", executes=True)
def _plain(path: Path, witness: Path) -> None:
    path.write_bytes(b"\x80\x02" + system(witness) + b".")


@kind("a legacy file with a call", executes=True)
def _legacy(path: Path, witness: Path) -> None:
    path.write_bytes(LEGACY_HEAD + b"\x80\x02" + mapping(x=system(witness)) + b"." + pickle.dumps([], 2))


@kind("a legacy file with a call among its keys", executes=True)
def _legacy_keys(path: Path, witness: Path) -> None:
    path.write_bytes(LEGACY_HEAD + pickle.dumps({}, 2) + b"\x80\x02" + system(witness) + b".")


@kind("a legacy file that ends early")
def _legacy_short(path: Path, witness: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-3000])


@kind("a constructor of a torch layer of terabytes")
def _layer(path: Path, witness: Path) -> None:
    zipped(path, call("torch.nn.modules.linear", "Linear", integer(10**6), integer(10**6)))


@kind("a bytearray of terabytes")
def _bytearray(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD, x=call("builtins", "bytearray", integer(10**13))))


@kind("a NumPy array of terabytes")
def _array(path: Path, witness: Path) -> None:
    made = call(
        "numpy._core.multiarray",
        "_reconstruct",
        named("numpy", "ndarray"),
        integer(10**13) + b"\x85",
        text("b"),
    )
    zipped(path, mapping(w=GOOD, x=made))


@kind("a storage constructed with terabytes")
def _new_storage(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD, x=call("torch.storage", "UntypedStorage", integer(10**13))))


@kind("a tensor constructed with terabytes")
def _new_tensor(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD, x=named("torch", "FloatTensor") + b"(" + integer(10**13) + b"t\x81"))


@kind("a tensor called with a size")
def _sized_tensor(path: Path, witness: Path) -> None:
    size = call("torch", "Size", integer(10**13) + b"\x85")
    zipped(path, mapping(w=GOOD, x=call("torch", "FloatTensor", size)))


@kind("a tensor whose state is a forged view")
def _set_tensor(path: Path, witness: Path) -> None:
    state = b"(" + storage(4) + integer(0) + integer(10**13) + b"\x85" + integer(0) + b"\x85t"
    zipped(path, mapping(w=named("torch", "Tensor") + b")\x81" + state + b"b"))


@kind("a legacy file that declares itself many times")
def _legacy_many(path: Path, witness: Path) -> None:
    views = {f"w{i}": tensor(storage(300, key=str(i)), 0, (2, 2), (2, 1)) for i in range(400)}
    views = {k: v.replace(b"tQ", b"NtQ") for k, v in views.items()}
    path.write_bytes(LEGACY_HEAD + b"\x80\x02" + mapping(**views) + b"." + pickle.dumps([], 2) + bytes(1500))


@kind("a declared storage of terabytes")
def _huge_storage(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(10**12), 0, (10**6, 10**6), (10**6, 1))))


@kind("a tensor of a terabyte over one number")
def _huge_view(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(4), 0, (10**6, 10**6), (0, 0))))


@kind("a negative storage")
def _negative_storage(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(-4), 0, (1,), (1,))))


@kind("a negative size")
def _negative_size(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(4), 0, (-1, 4), (2, 1))))


@kind("a negative stride")
def _negative_stride(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(4), 3, (2, 2), (-2, -1))))


@kind("an offset outside the storage")
def _offset(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(4), 1 << 40, (2, 2), (2, 1))))


@kind("a size beyond 64 bits")
def _big_integer(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(4), 0, (1 << 80,), (1,))))


@kind("missing data")
def _missing_data(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(4, key="7"), 0, (2, 2), (2, 1))))


@kind("a storage named with a path")
def _traversing_key(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=tensor(storage(4, key="../../../etc/passwd"), 0, (2, 2), (2, 1))))


@kind("a list in itself")
def _cycle(path: Path, witness: Path) -> None:
    zipped(path, b"]q\x00h\x00a")


@kind("a dictionary in itself")
def _cyclic_dict(path: Path, witness: Path) -> None:
    zipped(path, b"}q\x00" + text("model") + b"h\x00s")


@kind("lists that contain each other")
def _clique(path: Path, witness: Path) -> None:
    made = b"".join(b"]q" + bytes([i]) + b"0" for i in range(24))
    filled = b"".join(
        b"h" + bytes([i]) + b"(" + b"".join(b"h" + bytes([j]) for j in range(24)) + b"e0" for i in range(24)
    )
    zipped(path, made + filled + mapping(_parameters=b"h\x00", _modules=b"h\x00"))


@kind("a billion laughs")
def _laughs(path: Path, witness: Path) -> None:
    program = b"]q\x00"
    for level in range(1, 60):
        program += b"](" + (b"h" + bytes([level - 1])) * 10 + b"eq" + bytes([level])
    zipped(path, program)


@kind("a key that takes for ever to hash")
def _hash_bomb(path: Path, witness: Path) -> None:
    program = b")q\x00"
    for level in range(1, 64):
        program += (b"h" + bytes([level - 1])) * 2 + b"\x86q" + bytes([level])
    zipped(path, b"}" + program + b"Ns")


@kind("a key nested without end")
def _deep_key(path: Path, witness: Path) -> None:
    zipped(path, b"})" + b"\x85" * 300_000 + b"Ns")


@kind("a set of a tuple nested without end")
def _deep_set(path: Path, witness: Path) -> None:
    zipped(path, mapping(w=GOOD, x=call("builtins", "set", b"])" + b"\x85" * 300_000 + b"a")))


@kind("lists nested without end")
def _deep(path: Path, witness: Path) -> None:
    zipped(path, b"]" * 200_000 + b"a" * 199_999)
