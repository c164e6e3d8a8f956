"""PyTorch checkpoint -> plain Python data and tensors, with ``weights_only`` always on.

Pickle is a program. The restricted unpickler of ``torch.load(weights_only=True)`` refuses every class it was
not told about; the only names added here are torch's own layers (whose construction runs no user code) and
the classes or modules the user named with ``--trust``. ``weights_only=False`` is used nowhere.
"""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scconv_deploy.checkpoint.kinds import Kind, kind_of
from scconv_deploy.errors import InputError, UntrustedCodeError

SYSTEM_MODULES = frozenset(
    {"builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "shutil", "runpy", "importlib"}
    | {"pty", "socket", "ctypes", "code", "pdb", "commands", "webbrowser", "multiprocessing"}
)
"""Top-level modules whose functions start processes, run code or change the system."""

Allowed = tuple[Any, str]
"""A class and the dotted name under which the checkpoint asks for it."""


def needed_globals(path: Path) -> tuple[str, ...]:
    """Dotted names of every class or function the checkpoint would import, beyond torch's safe list.

    Nothing is executed: the pickle is only disassembled.

    Raises:
        InputError: the file's pickle is damaged.
    """
    try:
        if kind_of(path) is not Kind.TORCH_LEGACY:
            return tuple(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))))
        return tuple(sorted(_legacy_globals(path.read_bytes())))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} cannot be read: {_first_line(error)}") from error


def _legacy_globals(data: bytes) -> set[str]:
    """The same for the format before torch 1.6: five pickles (magic, protocol, system, content, keys).

    torch lists globals of zip archives only, so each pickle is handed over inside one.
    """
    names: set[str] = set()
    start = 0
    for _ in range(5):
        length = 1 + max(position or 0 for _, _, position in pickletools.genops(data[start:]))
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as written:
            written.writestr("archive/data.pkl", data[start : start + length])
            written.writestr("archive/version", "3\n")
        archive.seek(0)
        names.update(torch.serialization.get_unsafe_globals_in_checkpoint(archive))
        start += length
    return names


def is_torch_layer(name: str) -> bool:
    """Whether a dotted name is a layer class of torch.nn itself."""
    return torch_layer(name) is not None


def torch_layer(name: str) -> type[nn.Module] | None:
    """The ``nn.Module`` class of that dotted name if torch defines it (below ``torch.nn.modules``)."""
    module, _, attribute = name.rpartition(".")
    if not module.startswith("torch.nn.modules"):
        return None
    found = getattr(sys.modules.get(module), attribute, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def untrusted(names: Sequence[str], trust: Sequence[str]) -> tuple[str, ...]:
    """Names that neither torch nor ``--trust`` vouches for. Trusting a module trusts its classes."""
    return tuple(n for n in names if not is_torch_layer(n) and not _is_trusted(n, trust))


def load_weights_only(path: Path, trust: Sequence[str] = ()) -> Any:
    """Read a checkpoint; importing user code only for the classes named in ``trust``.

    Trusted modules are looked up beside the checkpoint, in the current folder and on ``sys.path``.

    Raises:
        UntrustedCodeError: classes are needed that were not named; the message shows the option to add.
        InputError: the file is damaged, or a trusted class cannot be imported.
    """
    names = needed_globals(path)
    missing = untrusted(names, trust)
    if missing:
        refuse_system_calls(path, missing)
        modules = sorted({n.rpartition(".")[0] for n in missing})
        options = " ".join(f"--trust {m}" for m in modules)
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        raise UntrustedCodeError(
            f"{path} is a pickled object and needs code of its own to load: {shown}. "
            f"If you trust that code, add {options}; nothing was executed"
        )
    return load_restricted(path, [_import(name, path.parent) for name in names])


def refuse_system_calls(path: Path, names: Sequence[str]) -> None:
    """Where a checkpoint asks for a system function, no option is offered that would give it one.

    Raises:
        UntrustedCodeError: a name lies in a module that starts processes, runs code or touches files.
    """
    found = [n for n in names if n.partition(".")[0] in SYSTEM_MODULES]
    if found:
        raise UntrustedCodeError(
            f"{path} would call {', '.join(found)} while loading, which no model needs: the file is probably "
            "hostile; nothing was executed, do not load it elsewhere either"
        )


def load_restricted(path: Path, allowed: Sequence[Allowed]) -> Any:
    """``torch.load(weights_only=True)`` that may construct only ``allowed`` beyond torch's own safe list.

    Raises:
        InputError: the file is damaged or asks for something else.
    """
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} cannot be loaded: {_first_line(error)}") from error


def import_named(name: str, beside: Path | None = None) -> Any:
    """Import ``package.module.attribute`` or ``module:attribute`` that the user named.

    Raises:
        InputError: it cannot be imported, in words.
    """
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if not module or not attribute:
        raise InputError(f"'{name}' does not name a thing in a module; write it like package.module:callable")
    places = [str(p) for p in (beside, Path.cwd()) if p is not None]
    before = list(sys.path)
    sys.path[:0] = [p for p in places if p not in sys.path]
    try:
        found: Any = importlib.import_module(module)
        return getattr(found, attribute)
    except AttributeError as error:
        raise InputError(f"module '{module}' has no '{attribute}'") from error
    except Exception as error:
        raise InputError(
            f"cannot import '{module}' (looked beside the model file, in the current folder and in the "
            f"installed packages): {type(error).__name__}: {_first_line(error)}"
        ) from error
    finally:
        sys.path[:] = before


def _import(name: str, beside: Path) -> Allowed:
    layer = torch_layer(name)
    if layer is not None:
        return layer, name
    found = import_named(name, beside)
    home = getattr(found, "__module__", None)
    # Pickle names a class by the module that defines it. Another name reaches for something that the trusted
    # module merely imported (`from os import system`), which nobody vouched for.
    if home != name.rpartition(".")[0]:
        raise UntrustedCodeError(
            f"the checkpoint asks for {name}, which is not defined there but in {home}; "
            "nothing of it was executed"
        )
    return found, name


def _is_trusted(name: str, trust: Sequence[str]) -> bool:
    return any(name == t or name.startswith(t + ".") for t in (t.replace(":", ".") for t in trust))


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
