"""A TorchScript archive, or a ScriptModule in memory -> :class:`SourceModel`, by way of ONNX.

TorchScript is a program of its own: its code cannot be taken apart into PyTorch modules again, but torch still
writes it as ONNX (the exporter without Dynamo; the one with it refuses ScriptModules). From there it goes the
way of every ONNX file: SCConv blocks are found by the shape of the graph and certified. The conversion is
compared with the ScriptModule before anything is built on it, and the artifact is verified against the
ScriptModule, not against the conversion.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import torch

from scconv_deploy.artifacts import SourceModel, TensorSpec
from scconv_deploy.config import ExportConfig, ShapeRange
from scconv_deploy.errors import InputError, first_line, nearest
from scconv_deploy.inputs import AXIS_NAMES, UNBOUNDED, example_tensors
from scconv_deploy.programs import onnx_file
from scconv_deploy.programs.audit_torchscript import audit, clean_script
from scconv_deploy.programs.program_runner import ModuleRunner, named
from scconv_deploy.quiet import quiet_exporter
from scconv_deploy.workspace import sha256

OPSET = 17
"""The newest opset that torch's exporter for ScriptModules writes well; the artifact's own is chosen later."""
SAMPLES = 8
TOLERANCE = 1e-4
"""Of the output's magnitude. A sample whose gate lies at the threshold may differ by more, so most must agree."""


def load(path: Path, config: ExportConfig) -> SourceModel:
    """Read a TorchScript archive.

    Raises:
        InputError: it is damaged, does more than compute, the input shapes were not given, or it cannot be
            written as ONNX.
    """
    try:
        module = torch.jit.load(clean_script(audit(path)), map_location="cpu")  # type: ignore[no-untyped-call]
    except InputError:
        raise
    # Its compiler's error may come from anywhere in the archive.
    except Exception as error:
        raise InputError(f"{path} cannot be read as TorchScript: {first_line(error)}") from error
    return _source(module, str(path), "TorchScript archive", sha256(path), config)


def from_module(
    module: torch.jit.ScriptModule, config: ExportConfig, example: Sequence[torch.Tensor] | None = None
) -> SourceModel:
    """Take a ScriptModule in memory, which stays as it is; ``example`` says its shapes where ``config`` does not.

    Raises:
        InputError: as :func:`load`.
    """
    kept = io.BytesIO()
    torch.jit.save(module, kept)
    kept.seek(0)
    private = torch.jit.load(kept, map_location="cpu")  # type: ignore[no-untyped-call]
    if example is not None and not config.shapes:
        named_shapes = zip(_schema(private).arguments[1:], example, strict=False)
        shapes = {a.name: tuple(t.shape) for a, t in named_shapes}
        config = replace(config, shapes=tuple(ShapeRange(n, s, s, s) for n, s in shapes.items()))
    return _source(private, f"{module.original_name} object", "ScriptModule in memory", None, config)


def _source(
    module: torch.jit.ScriptModule, origin: str, kind: str, digest: str | None, config: ExportConfig
) -> SourceModel:
    module.eval()
    _refuse_outputs(module, origin)
    specs = script_inputs(module, origin, config.shapes)
    notes: list[str] = []
    if _half(module):
        # The exporter would write the half types into the graph; the widening is exact.
        module.float()
        notes.append("the weights are stored in half precision; they were converted to float32")
    runner = ModuleRunner(module, specs, origin)
    runner.check_runs(config.seed)
    specs = open_batch(runner, specs, config.seed)
    if isinstance(specs[0].shape[0], int) and specs[0].minimum == specs[0].maximum:
        notes.append(
            f"the program has its batch size written into it, so the artifact takes {specs[0].optimum[0]} at a time; "
            "trace the model with sizes taken from its input (x.shape[0]) for a free batch"
        )
    runner = ModuleRunner(module, specs, origin)
    model = to_onnx(runner, config.seed)
    refuse_different(runner, model, config.seed)
    return onnx_file.from_model(model, origin, kind, config, digest=digest, original=runner, notes=notes)


def script_inputs(
    module: torch.jit.ScriptModule, origin: str, ranges: Sequence[ShapeRange]
) -> tuple[TensorSpec, ...]:
    """The inputs by the names in forward's schema, with the shapes that the user gave.

    Raises:
        InputError: a shape is missing or belongs to no input, or an input is no tensor.
    """
    needed = [a for a in _schema(module).arguments[1:] if not a.has_default_value()]
    names = [a.name for a in needed]
    odd = next((a for a in needed if str(a.type) != "Tensor"), None)
    if odd is not None:
        raise InputError(
            f"{origin} takes '{odd.name}' of type {odd.type}; only tensors can be inputs of an artifact"
        )
    if not ranges:
        listed = " ".join(f"--input-shape {n}:1x3x224x224" for n in names) if len(names) > 1 else ""
        raise InputError(
            f"{origin} is TorchScript, which does not say its input shapes; give "
            f"{listed or '--input-shape 1x3x224x224'}"
        )
    given = {r.name: r for r in ranges}
    if set(given) == {None} and len(names) == 1:
        given = {names[0]: given[None]}
    for name in given:
        if name not in names:
            raise InputError(
                f"{origin} has no input '{name or '(unnamed)'}' (it has {', '.join(names)}){nearest(str(name), names)}"
            )
    missing = [n for n in names if n not in given]
    if missing:
        raise InputError(
            f"the shape of input '{missing[0]}' is missing; add --input-shape {missing[0]}:1x3x224x224"
        )
    return tuple(_spec(name, given[name]) for name in names)


def _refuse_outputs(module: torch.jit.ScriptModule, origin: str) -> None:
    """torch's exporter for ScriptModules writes tensors, and tuples and lists of them."""
    for made in _schema(module).returns:
        if "Dict" in str(made.type):
            raise InputError(
                f"{origin} returns a dictionary ({made.type}), which torch cannot write as ONNX from TorchScript; "
                "return a tuple, or give the Python model"
            )


def _schema(module: torch.jit.ScriptModule) -> torch.FunctionSchema:
    return cast(torch.FunctionSchema, cast(Any, module.forward).schema)


def _spec(name: str, span: ShapeRange) -> TensorSpec:
    shape: list[int | str] = list(span.optimum)
    for axis in span.dynamic_axes:
        shape[axis] = AXIS_NAMES.get(axis, f"axis{axis}")
    return TensorSpec(name, "float32", tuple(shape), span.minimum, span.optimum, span.maximum)


def open_batch(runner: ModuleRunner, specs: tuple[TensorSpec, ...], seed: int) -> tuple[TensorSpec, ...]:
    """Free the batch of inputs that have a fixed one, if the program proves to be indifferent to it.

    One sample more must run and leave the others' results as they were (a traced program may hold the number).
    """
    batch = specs[0].optimum[:1]
    if not batch or any(isinstance(s.shape[0], str) for s in specs if s.shape):
        return specs
    more = {s.name: (batch[0] + 1, *s.optimum[1:]) for s in specs if s.optimum[:1] == batch}
    few = example_tensors(specs, seed)
    many = [
        torch.cat([one, two[-1:]]) if s.name in more else one
        for s, one, two in zip(specs, few, example_tensors(specs, seed + 1, more), strict=True)
    ]
    try:
        before, after = runner(*few), runner(*many)
    except InputError:
        return specs
    for one, two in zip(before, after, strict=True):
        if one.shape[:1] != batch or two.shape != (batch[0] + 1, *one.shape[1:]):
            return specs
        if not torch.allclose(one, two[:-1], rtol=1e-3, atol=1e-3 * float(one.abs().max()), equal_nan=True):
            return specs
    return tuple(
        replace(
            s,
            shape=(AXIS_NAMES[0], *s.shape[1:]),
            minimum=(1, *s.minimum[1:]),
            maximum=(UNBOUNDED, *s.maximum[1:]),
        )
        if s.name in more
        else s
        for s in specs
    )


def to_onnx(runner: ModuleRunner, seed: int) -> onnx.ModelProto:
    """The ScriptModule as an ONNX model with its scopes as node names.

    Raises:
        InputError: torch cannot write it; the message holds the reason.
    """
    specs, example = runner.inputs, example_tensors(runner.inputs, seed)
    made = io.BytesIO()
    outputs = [name for name, _ in named(runner.result(*example))]
    free = {s.name: {a: d for a, d in enumerate(s.shape) if isinstance(d, str)} for s in specs}
    if any(free.values()):
        free |= {name: {0: AXIS_NAMES[0]} for name in outputs if AXIS_NAMES[0] in specs[0].shape}
    try:
        with torch.no_grad(), quiet_exporter(), _silent_stdout():
            torch.onnx.export(
                runner.module,
                example,
                cast(Any, made),  # a stream is taken, though not declared
                dynamo=False,
                opset_version=OPSET,
                input_names=[s.name for s in specs],
                output_names=outputs,
                dynamic_axes={name: axes for name, axes in free.items() if axes},
                training=torch.onnx.TrainingMode.EVAL,
                do_constant_folding=True,
            )
        return onnx.load_from_string(made.getvalue())
    except Exception as error:
        raise InputError(
            f"{runner.origin} cannot be written as ONNX: {first_line(error)}; export the Python model that it "
            "was made from"
        ) from error


def refuse_different(runner: ModuleRunner, model: onnx.ModelProto, seed: int) -> None:
    """Raise unless the conversion computes what the ScriptModule computes, on most of a few seeded inputs.

    Raises:
        InputError: it does not run, or differs.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        worst = [_difference(runner, session, seed + 1 + index) for index in range(SAMPLES)]
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{runner.origin} was written as ONNX, which does not run: {first_line(error)}"
        ) from error
    if sum(w <= TOLERANCE for w in worst) <= SAMPLES // 2:
        raise InputError(
            f"{runner.origin} and its conversion to ONNX compute different results (off by "
            f"{sorted(worst)[SAMPLES // 2]:.2g} of the output's size on most of {SAMPLES} inputs); "
            "export the Python model that it was made from"
        )


def _difference(runner: ModuleRunner, session: ort.InferenceSession, seed: int) -> float:
    shapes = {
        s.name: (s.minimum if isinstance(s.shape[0], str) else s.optimum)[:1] + s.optimum[1:]
        for s in runner.inputs
    }
    example = example_tensors(runner.inputs, seed, shapes)
    theirs = session.run(None, {s.name: t.numpy() for s, t in zip(runner.inputs, example, strict=True)})
    worst = 0.0
    for one, two in zip(runner(*example), theirs, strict=True):
        mine = one.double().numpy()
        if mine.shape != two.shape or np.isfinite(mine).all() != np.isfinite(two).all():
            return float("inf")
        scale = max(float(np.abs(mine).max(initial=0.0)), 1e-6)
        worst = max(worst, float(np.abs(mine - two).max(initial=0.0)) / scale)
    return worst


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """On a failure the exporter's C++ part prints the whole graph to the process's own standard output.

    Its switch does not work in torch 2.13 (``setup_onnx_logging`` tests the function instead of its result).
    """
    sys.stdout.flush()
    torch._C._jit_set_onnx_log_output_stream("stdout")
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _half(module: torch.jit.ScriptModule) -> bool:
    return any(t.dtype in (torch.float16, torch.bfloat16) for t in [*module.parameters(), *module.buffers()])
