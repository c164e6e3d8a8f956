"""A built artifact -> what of it is run to be compared: itself, its graph in ONNX Runtime, or its graph in torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from scconv_deploy.artifacts import BuiltArtifact, TracedGraph
from scconv_deploy.contracts import Runner
from scconv_deploy.errors import CapabilityError, InputError, VerificationError, first_line
from scconv_deploy.interpret.runner import TorchRunner
from scconv_deploy.parity.endtoend import Typed
from scconv_deploy.runtime.backends import open_runner
from scconv_deploy.runtime.onnx import OnnxRunner, version

GRAPH = "model.onnx"


def on_device(built: BuiltArtifact) -> bool:
    """Whether the artifact itself runs here, in the types it was built with."""
    return built.not_executed is None and built.runtime != "onnxruntime"


def subject_in_words(built: BuiltArtifact, in_torch: bool) -> str:
    """``model.onnx in ONNX Runtime 1.32.0 on CPU``; ``in_torch``: its types are simulated where it cannot run."""
    if in_torch and not on_device(built):
        what = built.primary.name
        if built.not_executed is not None:
            what = f"the ONNX graph {what} was built from"
        return f"{what}, in torch, rounding after every operator to the types it states"
    if built.not_executed is not None:
        return f"the ONNX graph {built.primary.name} was built from, in ONNX Runtime {version()} on CPU"
    if built.runtime == "onnxruntime":
        return f"{built.primary.name} in ONNX Runtime {version()} on CPU"
    return f"{built.primary.name} in {built.runtime}"


def executed_graph(built: BuiltArtifact, graph: TracedGraph) -> TracedGraph:
    """The graph to cut: what the file of the graph really holds, be it the artifact itself or what an engine
    was built from. A proof of a graph that was not written proves nothing about the file.

    Raises:
        VerificationError: the file cannot be read back.
    """
    runs = built.runtime == "onnxruntime" and built.not_executed is None
    source = built.primary if runs else next((f for f in built.files[1:] if f.name == GRAPH), None)
    if source is None:
        return graph
    try:
        return replace(graph, model=onnx.load(source))
    except (OSError, DecodeError) as error:
        raise VerificationError(f"{source.name} cannot be read back: {error}") from error


def open_subject(
    built: BuiltArtifact, graph: TracedGraph, in_torch: bool, threads: int | None = None
) -> Typed:
    """A runner of the artifact as an application opens it, or of what stands for it; it takes and gives float32.

    Raises:
        VerificationError: it cannot be opened.
    """
    types = {s.name: s.dtype for s in graph.inputs}
    try:
        if in_torch and not on_device(built):
            return Typed(TorchRunner(executed_graph(built, graph).model), types)
        if built.not_executed is not None:
            model = executed_graph(built, graph).model
            return Typed(OnnxRunner(model.SerializeToString(), threads=threads), types)
        return Typed(_open(built, threads), types)
    except InputError as error:
        raise VerificationError(f"{built.primary.name} was built but cannot be opened: {error}") from error


def _open(built: BuiltArtifact, threads: int | None) -> Runner:
    # Every backend is a Runner; its signature names the context manager that it is, too.
    return cast(Runner, open_runner(built.runtime, built.primary, threads))


def also_runs(
    built: BuiltArtifact, graph: TracedGraph, inputs: Mapping[str, np.ndarray]
) -> tuple[list[str], dict[str, np.ndarray] | None]:
    """Whether ONNX Runtime takes the file at all, as a note, and what it gives (float32): no evidence about its
    types, which it widens."""
    if built.runtime != "onnxruntime" or built.not_executed is not None:
        return [], None
    types = {s.name: s.dtype for s in graph.inputs}
    try:
        with Typed(_open(built, 1), types) as runner:
            made = runner.run(inputs)
    except (InputError, CapabilityError, TypeError, ValueError, RuntimeError) as error:
        return [f"ONNX Runtime on CPU does not run this graph ({first_line(error)})"], None
    note = "it also runs in ONNX Runtime on CPU, which computes 16-bit types in float32: no evidence of them"
    return [note], made
