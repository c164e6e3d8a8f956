"""PyTorch checkpoint -> plain Python data and tensors, with ``weights_only`` always on.

Pickle is a program. The restricted unpickler of ``torch.load(weights_only=True)`` refuses every class it was
not told about; the only names added here are torch's own layers (whose construction runs no user code) and
the classes or modules the user named with ``--trust``. ``weights_only=False`` is used nowhere.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from scconv_deploy.checkpoint import legacy
from scconv_deploy.checkpoint.archive import Outline, outline
from scconv_deploy.checkpoint.trust import (
    ORDINARY,
    RUN_DIRECTLY,
    is_own_name,
    is_trusted,
    refuse_system_calls,
    trust_options,
    trusted_home,
)
from scconv_deploy.errors import InputError, UntrustedCodeError, first_line

Allowed = tuple[Any, str]
"""A class and the dotted name under which the checkpoint asks for it."""


def needed_globals(path: Path) -> tuple[str, ...]:
    """Dotted names of every class or function the checkpoint would import, beyond plain data.

    Nothing is executed: the pickle is only read as data.

    Raises:
        InputError: the file or its pickle is damaged.
    """
    return outline(path).needs


def torch_layer(name: str) -> type[nn.Module] | None:
    """The ``nn.Module`` class of that dotted name if torch defines it (below ``torch.nn.modules``)."""
    module, _, attribute = name.rpartition(".")
    if not module.startswith("torch.nn.modules"):
        return None
    found = getattr(sys.modules.get(module), attribute, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def torch_function(name: str) -> Any:
    """A function of ``torch.nn.functional`` (or of the operators behind it), which modules keep.

    It may be referred to; calls of it while loading are refused by the outline. None for any other name.
    """
    module, _, attribute = name.rpartition(".")
    if module == "torch.nn.functional":
        found = getattr(functional, attribute, None)
        own = getattr(found, "__module__", "") or ""
        return found if isinstance(found, FunctionType | BuiltinFunctionType) and own == module else None
    if module == "torch._C._nn":
        found = getattr(torch._C._nn, attribute, None)
        return found if isinstance(found, BuiltinFunctionType) else None
    return None


def own_class(name: str) -> type | None:
    """The class of that name in this package's zoo, which needs no trust. None for any other name."""
    module, _, attribute = name.rpartition(".")
    if not is_own_name(name):
        return None
    found = getattr(sys.modules.get(module), attribute, None)
    return found if isinstance(found, type) and found.__module__ == module else None


def untrusted(names: Sequence[str], trust: Sequence[str]) -> tuple[str, ...]:
    """Names that neither torch nor ``--trust`` vouches for. Trusting a module trusts its classes."""
    return tuple(n for n in names if not (_vouched(n) or is_trusted(n, trust)))


def load_weights_only(path: Path, trust: Sequence[str] = ()) -> Any:
    """Read a checkpoint; importing user code only for the classes named in ``trust``.

    Trusted modules are looked up in the current folder, on ``sys.path`` and beside the checkpoint.

    Raises:
        UntrustedCodeError: classes are needed that were not named; the message shows the option to add.
        InputError: the file is damaged, or a trusted class cannot be imported.
    """
    read = outline(path)
    names = read.needs
    refuse_system_calls(path, names)
    missing = untrusted(names, trust)
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        options = trust_options(missing)
        script = " (MODULE: the script that saved it, without .py)" if "=MODULE" in options else ""
        raise UntrustedCodeError(
            f"{path} is a pickled object and needs code of its own to load: {shown}. "
            f"If you trust that code, add {options}{script}; nothing was executed"
        )
    homes = {name: trusted_home(name, trust) for name in names}
    refuse_system_calls(path, list(homes.values()))
    return load_restricted(path, [_import(name, homes[name], path.parent) for name in names], read)


def load_restricted(path: Path, allowed: Sequence[Allowed | type], read: Outline) -> Any:
    """``torch.load(weights_only=True)`` that may construct only ``allowed`` beyond torch's own safe list.

    ``read`` is the file's outline: that it could be read bounds work and memory here.

    Raises:
        InputError: the file is damaged, larger inside than outside, or asks for something else.
    """
    try:
        source: Path | io.BytesIO = path
        if read.containers:
            source = io.BytesIO(legacy.without_sources(path.read_bytes(), read.containers))
            allowed = [*allowed, (legacy.container, legacy.NAME)]
        allowed = [*allowed, *_numpy_data(read.names)]
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise InputError(f"{path} needs more memory to load than this machine gives") from error
    # A stranger's file decides what goes wrong in here, and in a trusted class's __setstate__.
    except Exception as error:
        raise InputError(f"{path} cannot be loaded: {first_line(error)}") from error


def _numpy_data(names: Sequence[str]) -> list[Allowed | type]:
    """What rebuilds NumPy scalars and arrays, which training loops leave beside the weights ("best_acc")."""
    asked = [n for n in names if n.startswith("numpy.") and ORDINARY.fullmatch(n)]
    if not asked:
        return []
    core = importlib.import_module(
        "numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray"
    )
    made = {
        "scalar": core.scalar,
        "_reconstruct": core._reconstruct,
        "ndarray": np.ndarray,
        "dtype": np.dtype,
    }
    types = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"}
    return [*((made[n.rpartition(".")[2]], n) for n in asked), *types, np.ndarray]


def import_named(name: str, beside: Path | None = None) -> Any:
    """Import ``package.module.attribute`` or ``module:attribute`` that the user named.

    Raises:
        InputError: it cannot be imported, in words.
    """
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if not module or not attribute:
        raise InputError(f"'{name}' does not name a thing in a module; write it like package.module:callable")
    before = list(sys.path)
    # A folder that came with the model file must not replace an installed package of the same name.
    sys.path.insert(0, str(Path.cwd()))
    sys.path.extend([] if beside is None else [str(beside)])
    try:
        found: Any = importlib.import_module(module)
        return getattr(found, attribute)
    except AttributeError as error:
        moved = (
            f"; it is in the script that saved the file: --trust {RUN_DIRECTLY}=MODULE, its name without .py"
            if module == RUN_DIRECTLY
            else ""
        )
        raise InputError(f"module '{module}' has no '{attribute}'{moved}") from error
    except Exception as error:
        raise InputError(
            f"cannot import '{module}' (looked in the current folder, in the installed packages and beside "
            f"the model file): {type(error).__name__}: {first_line(error)}"
        ) from error
    finally:
        sys.path[:] = before


def _vouched(name: str) -> Any:
    return torch_layer(name) or torch_function(name) or own_class(name)


def _import(name: str, home_name: str, beside: Path) -> Allowed:
    vouched = _vouched(name)
    if vouched is not None:
        return vouched, name
    found = import_named(home_name, beside)
    home = getattr(found, "__module__", None)
    # Pickle names a class by the module that defines it. Another name reaches for something that the trusted
    # module merely imported (`from os import system`), which nobody vouched for.
    if home != home_name.rpartition(".")[0]:
        raise UntrustedCodeError(
            f"the checkpoint asks for {home_name}, which is not defined there but in {home}; "
            "nothing of it was executed"
        )
    # Trust is given to classes, whose objects the file holds. A function would be called with the file's
    # own arguments.
    if not isinstance(found, type):
        raise UntrustedCodeError(
            f"the checkpoint asks for {name}, which is no class but a {type(found).__name__} that it could "
            "call; --trust allows classes only. Name the function that builds the architecture instead (--factory "
            "package.module:callable): the weights are then read without the file's code"
        )
    return found, name
