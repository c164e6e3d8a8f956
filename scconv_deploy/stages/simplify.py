"""simplify: :class:`TracedGraph` -> an equal, smaller, checked :class:`TracedGraph`.

onnxsim folds constants and removes redundant operators. The result must pass ``onnx.checker`` in full and
strict shape inference; if onnxsim cannot handle a graph, the unsimplified one goes on with a note.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import onnx
import onnxsim

from scconv_deploy.artifacts import TracedGraph
from scconv_deploy.config import ExportConfig
from scconv_deploy.errors import BuildError, first_line
from scconv_deploy.scconv.fused_ops import attach_functions

MAX_BYTES = 2**31 - 2**20
"""A serialised ModelProto must stay below 2 GiB; beyond, ONNX needs external data: no target reads it yet."""


def run(graph: TracedGraph, config: ExportConfig) -> TracedGraph:
    """Simplify (unless ``--no-simplify``) and check.

    Raises:
        BuildError: the graph is not valid ONNX, or larger than 2 GiB.
    """
    if graph.model.ByteSize() > MAX_BYTES:
        raise BuildError(
            f"the model is {graph.model.ByteSize() / 2**30:.1f} GiB; "
            "graphs of 2 GiB and more are not supported"
        )
    notes = list(graph.notes)
    model = graph.model
    if config.simplify:
        try:
            with _captured_output():
                simplified, _ = onnxsim.simplify(graph.model)
        except Exception as error:  # noqa: BLE001 - onnxsim raises bare RuntimeErrors; the graph goes on unsimplified
            notes.append(
                f"onnxsim could not simplify this graph ({first_line(error)}); it goes on unsimplified"
            )
        else:
            model = _keep_interface(graph.model, simplified)
    attach_functions(model)
    check(model)
    return replace(graph, model=model, notes=tuple(notes))


def check(model: onnx.ModelProto) -> None:
    """``onnx.checker`` with full check, and strict shape inference with data propagation.

    Raises:
        BuildError: with the checker's own sentence.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BuildError(f"the exported graph is not valid ONNX: {first_line(error)}") from error


def _keep_interface(before: onnx.ModelProto, after: onnx.ModelProto) -> onnx.ModelProto:
    """Names, types and symbolic axes of inputs and outputs stay as traced; node names stay unique."""
    for kept, new in ((before.graph.input, after.graph.input), (before.graph.output, after.graph.output)):
        if [v.name for v in kept] != [v.name for v in new]:
            raise BuildError("onnxsim changed the names of the model's inputs or outputs; use --no-simplify")
        for old_value, new_value in zip(kept, new, strict=True):
            new_value.CopyFrom(old_value)
    seen: set[str] = set()
    for index, node in enumerate(after.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_s{index}"
        seen.add(node.name)
    return after


@contextlib.contextmanager
def _captured_output() -> Iterator[None]:
    """onnxsim's C++ part prints to the process's own stdout; ``--json`` promises one object there.

    Its folding of constants in bfloat16, which ONNX Runtime gives no NumPy type to, prints a traceback each to
    stderr and leaves them as they are.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(stream) for stream in (1, 2)]
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
