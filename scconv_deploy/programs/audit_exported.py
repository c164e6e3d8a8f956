"""A stranger's ``.pt2`` archive -> the JSON and raw numbers of it that are safe to give to torch, or a refusal.

``torch.export.load`` is no safe reader. In torch 2.13 it runs, out of the archive: pickles of sample inputs
(with ``weights_only=False`` where the safe way fails), of weights, constants and custom objects; symbolic sizes,
through ``sympy.sympify``, which evaluates Python; ``guards_code``, which ``module()`` compiles and executes;
names of nodes, which are written into generated Python; pytree contexts, which import the modules they name;
compiled libraries below ``data/aotinductor``; and operator targets, which may be any attribute below ``torch``.
So nothing of the file reaches torch but what passed here: the graph's JSON with plain names, operators of
torch's own namespaces and strict size expressions, and the raw bytes of tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from scconv_deploy.checkpoint.archive import outline
from scconv_deploy.checkpoint.trust import refuse_system_calls
from scconv_deploy.errors import InputError
from scconv_deploy.programs.audit import DOTTED, MAX_TEXT, Entries, entries
from scconv_deploy.programs.audit_graph import clean_program

PROGRAM = "models/model.json"
PAYLOADS = {
    "weights": "data/weights/model_weights_config.json",
    "constants": "data/constants/model_constants_config.json",
}
COMPILED = (".so", ".cubin", ".ptx", ".o", ".dll", ".dylib", ".cpp", ".py", ".pyc", ".hsaco", ".spv")
ITEM_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2, 28: 2}
"""torch.export's numbers for scalar types -> bytes per element."""
DTYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
          9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16"}  # fmt: skip
MAX_VIEW = 1 << 24
"""Elements up to which a tensor may repeat its storage, as an expanded buffer does."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One stored tensor: the entry that holds its bytes, its element type's number, and its view."""

    entry: str
    dtype: int
    shape: tuple[int, ...]
    meta: Mapping[str, Any]

    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class AuditedProgram:
    """What may be shown to torch. ``program`` is the graph's JSON, rewritten; ``tensors`` are by kind and name."""

    entries: Entries
    program: dict[str, Any]
    tensors: Mapping[str, Mapping[str, Payload]]
    is_params: Mapping[str, bool]
    pickled: tuple[str, ...]
    notes: tuple[str, ...] = ()


def audit(path: Path) -> AuditedProgram:
    """Read a ``.pt2`` archive as data.

    Raises:
        InputError: damaged, of an older format, or it holds what would run or what no program needs.
    """
    archive = _opened(path)
    refuse_compiled(archive)
    pickled = _sample_inputs(archive)
    tensors: dict[str, Mapping[str, Payload]] = {}
    params: dict[str, bool] = {}
    for kind, config in PAYLOADS.items():
        found = archive.json(config) if config in archive.sizes else {"config": {}}
        tensors[kind], told = _payloads(archive, kind, found)
        params |= told
    try:
        program, notes = clean_program(archive.json(PROGRAM))
    except InputError as error:
        raise InputError(f"{path}: its program {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise InputError(
            f"{path}: its program lacks what torch.export writes ({error}); it is damaged"
        ) from error
    return AuditedProgram(archive, program, tensors, params, pickled, notes)


def _opened(path: Path) -> Entries:
    try:
        return entries(path, PROGRAM)
    except InputError as error:
        try:
            entries(path, "serialized_exported_program.json")
        except InputError:
            raise error from None
        raise InputError(
            f"{path} was written by torch 2.7 or earlier, in a form that is read by unpickling; load it there with "
            "torch.export.load and save it again with torch 2.9 or later"
        ) from error


def refuse_compiled(archive: Entries) -> None:
    """Raise where compiled code, several programs or foreign model formats lie in the archive."""
    odd = [
        n
        for n in archive.sizes
        if n.endswith(COMPILED) or n.startswith(("data/aotinductor", "data/executorch"))
    ]
    if odd:
        raise InputError(
            f"{archive.path} carries compiled code ('{odd[0][:80]}'), which would run with your rights as soon as it "
            "is loaded: give the archive that torch.export.save writes; nothing was executed"
        )
    programs = [n for n in archive.sizes if n.startswith("models/")]
    if len(programs) != 1:
        raise InputError(f"{archive.path} holds {len(programs)} programs; save the one to deploy by itself")


def _sample_inputs(archive: Entries) -> tuple[str, ...]:
    """Names of pickled payloads. They are never unpickled; a hostile one says what the file is for."""
    found = tuple(n for n in archive.sizes if n.endswith((".pt", ".pkl", ".pickle")) and archive.sizes[n])
    for name in found:
        if name != "data/sample_inputs/model.pt":
            raise InputError(
                f"{archive.path} stores '{name[:80]}' as a pickle, which torch would execute; save the program again "
                "with a current torch.export.save, which stores plain numbers"
            )
        read = outline(archive.path, data=archive.read(name, MAX_TEXT))
        refuse_system_calls(archive.path, read.names)
        if read.needs:
            raise InputError(
                f"{archive.path}: its sample inputs need {', '.join(read.needs[:3])}, which is no plain data; export "
                "the program with tensors as inputs"
            )
    return found


def _payloads(archive: Entries, kind: str, config: Any) -> tuple[dict[str, Payload], dict[str, bool]]:
    listed = config.get("config") if isinstance(config, dict) else None
    if not isinstance(listed, dict):
        raise InputError(f"{archive.path}: its list of {kind} is damaged")
    found, params = {}, {}
    for name, told in listed.items():
        where = f"{archive.path}: the {kind[:-1]} '{name[:80]}'"
        if not DOTTED.fullmatch(name) or not isinstance(told, dict):
            raise InputError(f"{where} has a name that no module gives")
        meta, file = told.get("tensor_meta"), told.get("path_name")
        if told.get("use_pickle") or not isinstance(meta, dict):
            raise InputError(f"{where} is stored as a pickled object, which loading would execute")
        if not isinstance(file, str) or not re.fullmatch(r"(weight|tensor)_\d{1,9}", file):
            raise InputError(f"{where} lies in the entry {file!r:.80}, which is no tensor")
        found[name] = _payload(where, meta, f"data/{kind}/{file}", archive.sizes.get(f"data/{kind}/{file}"))
        params[name] = bool(told.get("is_param"))
    return found, params


def _payload(where: str, meta: Mapping[str, Any], entry: str, size: int | None) -> Payload:
    try:
        shape = [s["as_int"] for s in meta["sizes"]]
        strides = [s["as_int"] for s in meta["strides"]]
        offset, dtype = meta["storage_offset"]["as_int"], meta["dtype"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{where} is described without {error}; the file is damaged") from error
    numbers = [*shape, *strides, offset]
    if any(type(n) is not int or not 0 <= n < 1 << 40 for n in numbers) or len(shape) != len(strides):
        raise InputError(f"{where} has a negative or senseless size")
    if dtype not in ITEM_SIZES or meta.get("layout", 7) != 7:
        raise InputError(
            f"{where} is of an element type or layout that is not supported (number {dtype!r:.20})"
        )
    if size is None:
        raise InputError(f"{where} should lie in '{entry}', which the file does not contain")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if prod(shape) and (last + 1) * ITEM_SIZES[dtype] > size:
        raise InputError(
            f"{where} needs {(last + 1) * ITEM_SIZES[dtype]} bytes where the file holds {size} (forged)"
        )
    if prod(shape) > max(size // ITEM_SIZES[dtype], MAX_VIEW):
        raise InputError(f"{where} declares {prod(shape)} elements over {size} bytes (forged)")
    return Payload(entry, dtype, tuple(shape), meta)
