"""A ``torch.export`` program (a ``.pt2`` file, or an object in memory) -> :class:`SourceModel`.

A file is audited first (``audit_exported``): torch is given an archive that was written here, of plain JSON and raw
numbers, never the stranger's own. The program is then unflattened into a tree of modules with the user's own
paths, on which SCConv blocks are recognised and certified as on any module. The program itself stays what the
artifact is verified against.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import ExportedProgram

from scconv_deploy.artifacts import SourceModel, TensorSpec
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import InputError, first_line
from scconv_deploy.programs.audit_exported import PAYLOADS, PROGRAM, AuditedProgram, audit
from scconv_deploy.programs.layers import restore_layers
from scconv_deploy.programs.loosen import loosen
from scconv_deploy.programs.program_inputs import program_inputs
from scconv_deploy.programs.program_module import ProgramModule, program_module
from scconv_deploy.programs.program_runner import ModuleRunner
from scconv_deploy.quiet import quiet_exporter
from scconv_deploy.workspace import sha256

RANDOM = ("dropout", "rand", "randn", "bernoulli", "normal", "uniform", "multinomial", "randint", "randperm")


def load(path: Path, config: ExportConfig) -> SourceModel:
    """Read a ``.pt2`` file.

    Raises:
        InputError: it is damaged, holds code or other programs, or was exported in training mode.
    """
    audited = audit(path)
    archive = clean_archive(audited)
    return _source(archive, str(path), "torch.export archive (.pt2)", sha256(path), audited.notes, config)


def from_program(program: ExportedProgram, config: ExportConfig) -> SourceModel:
    """Take a program in memory; it stays as it is.

    Raises:
        InputError: it cannot be written by ``torch.export.save`` (custom operators or objects).
    """
    written = io.BytesIO()
    try:
        with quiet_exporter(), _quiet_serializer():
            torch.export.save(program, written)
    except Exception as error:
        raise InputError(f"the exported program cannot be saved: {first_line(error)}") from error
    # The same way as for a file, so that inputs and outputs have one form; nothing in it is a stranger's.
    with _temporary(written.getvalue()) as path:
        audited = audit(path)
        archive = clean_archive(audited)
    return _source(archive, "ExportedProgram object", "program in memory", None, audited.notes, config)


def clean_archive(audited: AuditedProgram) -> io.BytesIO:
    """An archive for torch to load: the audited JSON, the tensors' bytes, and nothing else of the file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, data: bytes) -> None:
            archive.writestr(f"model/{name}", data)

        put("archive_format", b"pt2")
        put("archive_version", b"0")
        put(
            "byteorder",
            audited.entries.read("byteorder", 16) if "byteorder" in audited.entries.sizes else b"little",
        )
        put(".data/version", b"6\n")
        put(PROGRAM, json.dumps(audited.program).encode())
        put("data/sample_inputs/model.pt", b"")
        written: set[str] = set()
        for kind, config in PAYLOADS.items():
            listed = {}
            for name, payload in audited.tensors[kind].items():
                meta = dict(payload.meta) | {"device": {"type": "cpu", "index": None}}
                listed[name] = {
                    "path_name": payload.entry.rpartition("/")[2],
                    "is_param": audited.is_params[name],
                    "use_pickle": False,
                    "tensor_meta": meta,
                }
                if payload.entry not in written:
                    written.add(payload.entry)
                    put(payload.entry, audited.entries.read(payload.entry))
            put(config, json.dumps({"config": listed}).encode())
    made.seek(0)
    return made


def _source(
    archive: io.BytesIO,
    origin: str,
    kind: str,
    digest: str | None,
    notes: tuple[str, ...],
    config: ExportConfig,
) -> SourceModel:
    program = _loaded(archive, origin)
    _refuse_training(program, origin)
    inputs, more = program_inputs(program, origin)
    notes += more
    archive.seek(0)
    original = ModuleRunner(_loaded(archive, origin).module(), inputs, origin)
    original.check_runs(config.seed)
    kept: ModuleRunner | None = original
    half = _half(program)
    notes += loosen(program)
    module = _unflattened(program, inputs, origin)
    if half:
        kept = None
        module.float()
        notes += (
            "the program computes in half precision: it is read with its stored values in float32, which is what "
            "the artifact is verified against",
        )
    return SourceModel(module, origin, kind, digest, None, inputs, notes, kept)


def _loaded(archive: io.BytesIO, origin: str) -> ExportedProgram:
    try:
        with quiet_exporter(), _quiet_serializer():
            return torch.export.load(archive)
    # Another version's program, or a forged one, fails in any way it likes; nothing of it runs.
    except Exception as error:
        raise InputError(
            f"{origin} cannot be read by the torch {torch.__version__} installed here: {_cause(error)}"
        ) from error


def _cause(error: BaseException) -> str:
    """The innermost reason; torch wraps a whole traceback into its message."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return first_line(error)


def _refuse_training(program: ExportedProgram, origin: str) -> None:
    changed = [
        *program.graph_signature.buffers_to_mutate.values(),
        *program.graph_signature.user_inputs_to_mutate,
    ]
    if changed:
        raise InputError(
            f"{origin} changes its own state or inputs ('{changed[0]}') while it runs, as a program exported in "
            "training mode does; call model.eval() before torch.export.export"
        )
    for node in program.graph.nodes:
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        random = name in RANDOM and not (name == "dropout" and len(node.args) > 2 and not node.args[2])
        if node.op == "call_function" and random:
            raise InputError(
                f"{origin} draws random numbers ({node.target}), as a program exported in training mode does; call "
                "model.eval() before torch.export.export"
            )


def _unflattened(program: ExportedProgram, inputs: Sequence[TensorSpec], origin: str) -> ProgramModule:
    try:
        with quiet_exporter():
            module = program_module(torch.export.unflatten(program), [s.name for s in inputs])
    except Exception as error:
        raise InputError(f"{origin} cannot be taken apart into its modules: {_cause(error)}") from error
    module.requires_grad_(False)
    restore_layers(module)
    return module.eval()


def _half(program: ExportedProgram) -> bool:
    stored = [*program.state_dict.values(), *program.constants.values()]
    floating = {t.dtype for t in stored if isinstance(t, torch.Tensor) and t.is_floating_point()}
    return bool(floating & {torch.float16, torch.bfloat16})


@contextmanager
def _quiet_serializer() -> Iterator[None]:
    logger = logging.getLogger("torch._export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _temporary(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="scconv-") as folder:
        path = Path(folder) / "program.pt2"
        path.write_bytes(data)
        yield path
