"""A stranger's TorchScript archive -> a copy of it that only computes, or a refusal.

``torch.jit.load`` compiles the archive's ``code/`` and builds its objects with the archive's own ``__setstate__``
methods; afterwards ``forward`` may call any operator that this process has registered: ``aten::save`` writes files,
``aten::from_file`` maps (and creates) them, others reach the network or another library's code. Python is never
run by it. So the source is read here as tokens: operators of torch's own namespaces only, none with effects outside
of its tensors, no ``__setstate__``, no loops (a loop that never ends would hang the export, and one whose turns
depend on data has no exact ONNX form here), no ``print``. The pickles are read symbolically. torch then gets an
archive that was written here, with the audited entries only.
"""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scconv_deploy.checkpoint.pickled import PickleReader
from scconv_deploy.checkpoint.trust import ORDINARY, is_system_name, refuse_system_calls
from scconv_deploy.errors import InputError
from scconv_deploy.programs.audit import FORBIDDEN, MAX_TEXT, Entries, entries

PICKLES = ("data.pkl", "constants.pkl", "attributes.pkl")
SOURCE = re.compile(r"code/[A-Za-z0-9_/]+\.py", re.ASCII)
KEPT = re.compile(r"(data|constants|attributes)(\.pkl|/[0-9]+)|version|byteorder", re.ASCII)

PRIM = frozenset(
    {
        "NumToTensor",
        "unchecked_cast",
        "unchecked_unwrap_optional",
        "min",
        "max",
        "abs",
        "data",
        "dtype",
        "device",
    }
    | {
        "is_cuda",
        "type",
        "rangelist",
        "layout",
        "requires_grad",
        "RaiseException",
        "Uninitialized",
        "TupleIndex",
    }
    | {
        "itemsize",
        "nbytes",
        "is_sparse",
        "is_quantized",
        "is_mkldnn",
        "TupleUnpack",
        "index",
        "grad",
        "tolist",
    }
)
WORDS = {
    "while": "loops", "for": "loops", "print": "prints", "__setstate__": "builds objects by code of its own",
    "__getstate__": "builds objects by code of its own", "fork": "starts threads", "rpc_async": "calls other machines",
}  # fmt: skip
EFFECTS = FORBIDDEN | {"print", "warn", "rpc_remote", "wait", "awaitable_wait", "set_grad_enabled"}

TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<text>'''.*?'''|\"\"\".*?\"\"\"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>\d[\w.]*)|(?P<space>\s+)|(?P<other>.)""",
    re.DOTALL,
)
Tokens = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class AuditedScript:
    """What an archive holds: its entries, the operators its code calls, and the tree of its objects."""

    entries: Entries
    sources: tuple[str, ...]
    operators: Counter[str]
    classes: tuple[str, ...]
    content: Any
    constants: Any


def audit(path: Path) -> AuditedScript:
    """Read a TorchScript archive as data.

    Raises:
        InputError: it is damaged, or its code does more than compute.
    """
    archive = entries(path, "constants.pkl")
    sources = tuple(n for n in archive.sizes if SOURCE.fullmatch(n))
    odd = [
        n
        for n in archive.sizes
        if n.startswith("code/") and not n.endswith(".debug_pkl") and n not in sources
    ]
    if odd or sum(archive.sizes[n] for n in sources) > MAX_TEXT:
        raise InputError(
            f"{path} holds code under a name ('{(odd or ['code'])[0][:80]}') that torch.jit.save never uses"
        )
    operators: Counter[str] = Counter()
    classes: list[str] = []
    for name in sources:
        found = tokens(_text(archive, name))
        try:
            operators.update(called(found))
        except InputError as error:
            raise InputError(f"{path}: its code ({name}) {error}; nothing of it was executed") from error
        classes += [b[1] for a, b in itertools.pairwise(found) if a == ("name", "class")]
    trees = {name: _objects(archive, name) for name in PICKLES if name in archive.sizes}
    return AuditedScript(
        archive, sources, operators, tuple(classes), trees.get("data.pkl"), trees.get("constants.pkl")
    )


def clean_script(audited: AuditedScript) -> io.BytesIO:
    """The archive for torch: audited sources and pickles and the tensors' bytes; no debug files, no extra files."""
    made = io.BytesIO()
    kept = {n for n in audited.entries.sizes if KEPT.fullmatch(n)}
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in audited.entries.sizes:
            if name in kept or name in audited.sources:
                archive.writestr(f"model/{name}", audited.entries.read(name))
    made.seek(0)
    return made


def tokens(source: str) -> list[tuple[str, str]]:
    """Names, texts and other characters of a TorchScript source; comments and spaces are left out."""
    found = []
    for match in TOKEN.finditer(source):
        kind = str(match.lastgroup)
        if kind not in ("comment", "space"):
            found.append((kind, match.group()))
    return found


def called(found: Tokens) -> Iterator[str]:
    """Every operator that the source calls, as ``aten::conv2d``.

    Raises:
        InputError: an operator, a word or an attribute that does more than compute. Without a subject.
    """
    words = [t for _, t in found] + [""] * 6
    for index, (kind, word) in enumerate(found):
        after, method = words[index + 1], words[index - 1] == "." if index else False
        if kind == "text" and word.strip("'\"") in EFFECTS and "getattr" in words[max(0, index - 8) : index]:
            raise InputError(f"asks for {word}, which reaches beyond its tensors")
        if kind != "name":
            continue
        if word in WORDS and not (method and after != "("):
            raise InputError(f"{WORDS[word]} ('{word}'), which a program to be exported must not")
        if word in EFFECTS and after == "(" and words[index - 1] != "def":
            raise InputError(f"calls '{word}', which reaches beyond its tensors")
        if word == "classes" and method and words[index - 2] == "torch":
            raise InputError(
                f"uses the custom class {'.'.join(words[index + 2 : index + 5 : 2])}, whose code is not in torch"
            )
        if word == "torch" and not method:
            yield f"aten::{_attribute(words, index)}"
        elif word == "ops" and not method and after == ".":
            yield _namespaced(words, index)
        elif word == "ops" and not method and words[index + 1] != "=":
            raise InputError("passes 'ops' on, through which any operator can be called")


def _attribute(words: Sequence[str], index: int) -> str:
    """The operator of ``torch.NAME(``; torch itself may not be passed on."""
    dot, name, opened = words[index + 1 : index + 4]
    if dot != "." or opened != "(" or not name.isidentifier():
        raise InputError(f"uses torch otherwise than by calling it ('torch{dot}{name[:40]}')")
    return name


def _namespaced(words: Sequence[str], index: int) -> str:
    _, space, dot, name, opened = words[index + 1 : index + 6]
    if dot != "." or opened != "(" or space not in ("aten", "prim") or (space == "prim" and name not in PRIM):
        raise InputError(
            f"calls the operator {space}::{name}, which is not among torch's own tensor operators (a custom library's, "
            "quantised or with effects)"
        )
    return f"{space}::{name}"


def _text(archive: Entries, name: str) -> str:
    data = archive.read(name, MAX_TEXT)
    # A carriage return may end a comment for one reader and not for another.
    if any(byte > 126 or (byte < 32 and byte not in b"\n\t") for byte in set(data)):
        raise InputError(f"{archive.path}: its code ({name}) is no plain text")
    return data.decode("ascii")


def _objects(archive: Entries, name: str) -> Any:
    """The tree of one pickle, read symbolically."""
    data = archive.read(name, MAX_TEXT)
    folder = name.removesuffix(".pkl")
    reader = PickleReader(lambda key: archive.sizes.get(f"{folder}/{key}"), script=True)
    try:
        tree, _ = reader.read(data)
    except InputError as error:
        refuse_system_calls(archive.path, _foreign(reader))
        raise InputError(f"{archive.path} (its {name}) {error}; nothing was executed") from error
    foreign = _foreign(reader)
    refuse_system_calls(archive.path, foreign)
    classes = [n for n in reader.names if n.startswith("__torch__.torch.classes.")]
    if foreign or classes:
        odd = (*foreign, *classes)[0][:100]
        raise InputError(f"{archive.path} (its {name}) holds an object of {odd}, which is no plain data")
    return tree


def _foreign(reader: PickleReader) -> tuple[str, ...]:
    known = ("__torch__.", "torch.jit._pickle.")
    return tuple(
        n
        for n in reader.names
        if not n.startswith(known) and (is_system_name(n) or not ORDINARY.fullmatch(n))
    )
