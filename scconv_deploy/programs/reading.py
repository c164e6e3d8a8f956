"""An ONNX file from a stranger -> a checked ModelProto with all its tensors inside, or one sentence.

The file is data: nothing in it is executed here, no file outside its own folder is opened, and nothing is
allocated that the files themselves do not hold. Imports onnx and no torch, for ``scconv-inspect`` uses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx

from scconv_deploy.errors import InputError

MAX_BYTES = 2**31 - 1
"""Protobuf's own limit of a message, and with external tensors ours."""
OLDEST_OPSET = 7
STANDARD = ("", "ai.onnx")


def read_model(path: Path) -> onnx.ModelProto:
    """Parse, load external tensors, check.

    Raises:
        InputError: damaged, too large, wired wrongly, reaching for other files, or using what this package
            does not read (control flow, strings, operators outside the standard, opsets below 7).
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"{path} has {size} bytes; an ONNX file holds at most 2 GiB (larger ones keep tensors outside)"
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own DecodeError; onnx brings the library, with or without stubs
        raise InputError(
            f"{path} begins like an ONNX model but cannot be parsed ({first_line(error)}); "
            "the download or copy was probably cut short"
        ) from error
    load_external(model, path)
    check_model(model, str(path))
    return model


def check_model(model: onnx.ModelProto, origin: str) -> None:
    """Refuse, in words, what cannot be a program that this package reads.

    Raises:
        InputError: the reason, with ``origin`` as the file's name.
    """
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{origin} holds an ONNX model without a graph to run (no nodes, or no outputs)")
    opset = opset_of(model)
    if opset < OLDEST_OPSET:
        raise InputError(
            f"{origin} is written in ONNX opset {opset}; opsets below {OLDEST_OPSET} are not read, convert it with "
            "onnx.version_converter"
        )
    for tensor in all_tensors(model):
        _check_tensor(tensor, origin)
    _check_operators(model, origin)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise InputError(f"{origin} is no valid ONNX model: {first_line(error)}") from error


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators; 0 where the model imports none."""
    return max((o.version for o in model.opset_import if o.domain in STANDARD), default=0)


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the model: initializers and attributes, those of subgraphs and functions too."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    nodes = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    while nodes:
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from graph.initializer
                nodes.extend(graph.node)


def _check_operators(model: onnx.ModelProto, origin: str) -> None:
    own = {(f.domain, f.name) for f in model.functions}
    foreign = sorted(
        {f"{n.domain}::{n.op_type}" for n in model.graph.node if n.domain not in STANDARD}
        - {f"{d}::{n}" for d, n in own}
    )
    if foreign:
        raise InputError(
            f"{origin} uses operators outside the ONNX standard ({', '.join(foreign[:6])}); only standard "
            "operators can be read: export it again without them (ONNX Runtime: save it at the basic level)"
        )
    flow = sorted(
        {n.op_type for n in model.graph.node if any(a.HasField("g") or a.graphs for a in n.attribute)}
    )
    if flow:
        raise InputError(
            f"{origin} contains control flow ({', '.join(flow)}), which is not read; export the model with the "
            "branch that is taken"
        )


def _check_tensor(tensor: onnx.TensorProto, origin: str) -> None:
    name = tensor.name[:80] or "(unnamed)"
    if tensor.data_type == onnx.TensorProto.STRING:
        raise InputError(f"{origin} holds a tensor of strings ('{name}'); models on text are not read")
    if any(d < 0 for d in tensor.dims):
        raise InputError(f"{origin} declares tensor '{name}' with a negative extent: the file is damaged")
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{origin} holds tensor '{name}' of an unknown type {tensor.data_type}") from error
    count = math.prod(tensor.dims)
    held = tensor.ByteSize()
    # A typed field may pack small numbers into a byte each; nothing stores more than eight in one.
    if count > 8 * held + 8:
        raise InputError(
            f"{origin} declares tensor '{name}' with {count} elements and stores {held} bytes for it: "
            "the file is damaged or hostile"
        )
    if tensor.HasField("raw_data") and kind.itemsize > 1 and len(tensor.raw_data) != count * kind.itemsize:
        raise InputError(
            f"{origin} declares tensor '{name}' with {count} elements of {kind} and stores "
            f"{len(tensor.raw_data)} bytes for it: the file is damaged"
        )


def load_external(model: onnx.ModelProto, path: Path) -> None:
    """Move tensors kept in neighbouring files into the model, in place.

    Raises:
        InputError: a location that leaves the model's folder, a missing file, or more data than the files hold.
    """
    outside = [t for t in all_tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL]
    if not outside:
        return
    wanted: dict[Path, int] = {}
    pieces = []
    for tensor in outside:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        file = _beside(path, facts.get("location", ""), tensor.name)
        offset, length = _extent(path, facts, file, tensor)
        wanted[file] = wanted.get(file, 0) + length
        pieces.append((tensor, file, offset, length))
    for file, total in wanted.items():
        if total > file.stat().st_size:
            raise InputError(
                f"{path} takes {total} bytes of tensors from {file.name}, which has {file.stat().st_size}: "
                "the file is damaged or hostile"
            )
    if sum(wanted.values()) + path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} and its external tensors exceed 2 GiB, which is not supported")
    for tensor, file, offset, length in pieces:
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _beside(path: Path, location: str, tensor: str) -> Path:
    """The plain file in (or below) the model's own folder that ``location`` names."""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or "\\" in location or ":" in location or ".." in parts:
        raise InputError(
            f"{path} keeps tensor '{tensor[:80]}' in {location[:120]!r}; only files in the model's own folder are "
            "read"
        )
    file = path.parent
    for part in parts:
        file = file / part
        if file.is_symlink():
            raise InputError(
                f"{path} keeps tensors in {location[:120]!r}, which is a link; only plain files are read"
            )
    if not file.is_file():
        raise InputError(
            f"{path} keeps its tensors in {location[:120]!r}, which is not there; copy it beside the model"
        )
    return file


def _extent(path: Path, facts: dict[str, str], file: Path, tensor: onnx.TensorProto) -> tuple[int, int]:
    held = file.stat().st_size
    try:
        offset = int(facts.get("offset", 0))
        length = int(facts["length"]) if "length" in facts else held - offset
    except ValueError as error:
        raise InputError(
            f"{path} gives tensor '{tensor.name[:80]}' an offset or length that is no number"
        ) from error
    if offset < 0 or length < 0 or offset + length > held:
        raise InputError(
            f"{path} takes {length} bytes at {offset} from {file.name}, which has {held}: the file is damaged, "
            "or belongs to another model"
        )
    return offset, length


def first_line(error: BaseException) -> str:
    """The first telling line of a library's message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:240] if lines else type(error).__name__
