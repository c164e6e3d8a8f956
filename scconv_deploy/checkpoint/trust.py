"""Names that a checkpoint mentions -> plain layers, what needs trust, and what is never given.

Names only: nothing is imported here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scconv_deploy.errors import InputError, UntrustedCodeError

ORDINARY = re.compile(
    r"collections\.(OrderedDict|Counter)|builtins\.(set|bytearray|complex)|_codecs\.encode"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|serialization\._get_layout|_tensor\._rebuild_from_type_v2)"
    r"|torch\.storage\.(TypedStorage|UntypedStorage)|torch\._utils\._rebuild_\w+"
    r"|torch\.(cuda\.)?(sparse\.)?([A-Z]\w*)?(Storage|Tensor)"
    r"|torch\.(bool|bfloat16|(float|complex|u?int|qu?int|bits)\d\w*|per_(tensor|channel)_\w+)"
    r"|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|ndarray|dtype)"
)
"""Names that stand for plain data: what torch's restricted unpickler allows by itself, and NumPy's numbers."""

SYSTEM_MODULES = frozenset(
    {"os", "posix", "nt", "ntpath", "posixpath", "sys", "subprocess", "_posixsubprocess", "shutil", "runpy"}
    | {"importlib", "imp", "pkgutil", "pty", "socket", "ctypes", "_ctypes", "code", "codeop", "pdb", "bdb"}
    | {"commands", "webbrowser", "multiprocessing", "pickle", "_pickle", "marshal", "dill", "cloudpickle"}
    | {"timeit", "cProfile", "profile", "trace", "asyncio", "signal", "urllib", "http", "requests", "httpx"}
    | {
        "ftplib",
        "smtplib",
        "tempfile",
        "io",
        "_io",
        "zipimport",
        "pip",
        "site",
        "platform",
        "venv",
        "idlelib",
    }
)
"""Top-level modules whose contents start processes, run code, open files or reach the network."""

SYSTEM_NAMES = (
    *(f"builtins.{n}" for n in ("eval", "exec", "compile", "__import__", "open", "input", "breakpoint")),
    *(f"builtins.{n}" for n in ("globals", "locals", "vars", "setattr", "delattr", "exit", "quit")),
    *(f"torch.{n}" for n in ("hub", "load", "save", "jit", "package", "serialization", "ops", "classes")),
    "torch.utils.cpp_extension", "torch.utils.collect_env", "torch.multiprocessing", "torch.distributed.run",
    "operator.methodcaller", "numpy.load", "numpy.testing", "torch.storage._load_from_bytes",
)  # fmt: skip
"""Names, and modules of a useful package, that do the same."""


RUN_DIRECTLY = "__main__"
"""The module under which a script that is run directly records its own classes."""

OWN = ("scconv_deploy.scconv.reference.", "scconv_deploy.scconv.zoo.", "scconv_deploy.scconv.spec.")
"""Where this package keeps the networks of its zoo."""


def is_layer_name(name: str) -> bool:
    """Whether a dotted name lies where torch keeps its layers."""
    return name.startswith("torch.nn.modules.")


def is_own_name(name: str) -> bool:
    """Whether a dotted name lies where this package keeps the networks of its zoo."""
    return name.startswith(OWN)


def is_system_name(name: str) -> bool:
    """Whether a dotted name starts processes, runs code, opens files or reaches the network."""
    if name.partition(".")[0] in SYSTEM_MODULES:
        return True
    return any(name == n or name.startswith(n + ".") for n in SYSTEM_NAMES)


def refuse_system_calls(path: Path, names: Sequence[str]) -> None:
    """Where a checkpoint asks for a system function, no option is offered that would give it one.

    Raises:
        UntrustedCodeError: a name lies in a module that starts processes, runs code or touches files.
    """
    found = [n for n in names if is_system_name(n)]
    if found:
        raise UntrustedCodeError(
            f"{path} would call {', '.join(found[:6])} while loading, which no model needs: the file is "
            "probably hostile; nothing was executed, do not load it elsewhere either"
        )


def is_trusted(name: str, trust: Sequence[str]) -> bool:
    """Whether ``name`` or the module it lies in was named with ``--trust``."""
    return any(_covers(recorded, name) for recorded, _ in map(_parted, trust))


def trusted_home(name: str, trust: Sequence[str]) -> str:
    """Where a trusted name is found: ``--trust __main__=nets`` finds ``__main__.Net`` as ``nets.Net``.

    A script that is run directly and saves its model records its classes under ``__main__``, and code moves.
    """
    for recorded, actual in map(_parted, trust):
        if actual and _covers(recorded, name):
            return actual + name[len(recorded) :]
    return name


def trust_options(names: Sequence[str]) -> str:
    """The ``--trust`` options that vouch for ``names``: modules, or single names of large libraries."""
    wanted = {n if _is_standard(n) else n.rpartition(".")[0] for n in names}
    named = (f"{w}=MODULE" if w == RUN_DIRECTLY else w for w in sorted(wanted))
    return " ".join(f"--trust {w}" for w in named)


def _parted(trust: str) -> tuple[str, str]:
    """The name that the file records, and where it is to be found instead ('' for: there)."""
    recorded, _, actual = trust.replace(":", ".").partition("=")
    return recorded, actual


def _covers(recorded: str, name: str) -> bool:
    return name == recorded or name.startswith(recorded + ".")


def _is_standard(name: str) -> bool:
    if name.startswith(RUN_DIRECTLY + "."):
        return False
    return name.partition(".")[0] in sys.stdlib_module_names or name.startswith(("numpy.", "torch."))


def refuse_odd_call(name: str, arguments: tuple[Any, ...]) -> None:
    """Refuse functions that torch's restricted unpickler allows, and that a few bytes can make huge."""
    own = name.startswith("scconv_deploy.") and not name.startswith("scconv_deploy.scconv.spec.")
    if own or (name.startswith("torch.") and not ORDINARY.fullmatch(name)):
        raise InputError(f"calls {name} itself, which torch.save never writes")
    if name.startswith("torch.") and name.endswith(("Storage", "Tensor")):
        raise InputError(f"calls {name} itself, which torch.save never writes")
    if name == "builtins.bytearray" and any(type(a) is int for a in arguments):
        raise InputError(f"calls {name} with a size, which torch.save never writes")
    if name.endswith("._reconstruct") and arguments[1:2] != ((0,),):
        raise InputError(f"calls {name} with a size, which NumPy never writes")
    if name == "_codecs.encode" and (len(arguments) != 2 or arguments[1] not in ("latin1", "latin-1")):
        raise InputError("encodes text with a codec that torch.save never uses")


def refuse_odd_construction(name: str) -> None:
    """Refuse objects of plain data's classes made as pickle makes modules: torch.save never does."""
    if ORDINARY.fullmatch(name):
        raise InputError(f"constructs a {name}, which torch.save never writes")
