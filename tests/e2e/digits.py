"""The two trained digits models, exported in process, with a place to slip a fault into the pipeline.

Recognition and tracing are done once per model and reused: every twin then costs half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import onnx
import pytest

from scconv_deploy.artifacts import Bundle, LoweredModel, Recognition, TracedGraph
from scconv_deploy.config import ExportConfig, shape_ranges
from scconv_deploy.contracts import Silence
from scconv_deploy.inputs import example_tensors, settle
from scconv_deploy.pipeline import run_export
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import load, lower, recognise, simplify, trace

SAMPLES = Path(__file__).parents[2] / "samples" / "digits"
MODELS = ("model.pt", "pickled.pt")
BLOCKS = {
    "model.pt": (
        *("stages.0.0.conv1", "stages.0.0.conv2", "stages.0.1.conv1", "stages.0.1.conv2"),
        *("stages.1.0.conv2", "stages.2.0.conv2"),
    ),
    "pickled.pt": ("layer1.sc1", "layer1.sc2", "layer2.sc1", "layer2.sc2"),
}
Fault = Callable[[onnx.ModelProto], None]


@dataclass(frozen=True)
class Prepared:
    """What the stages before ``simplify`` made of a model."""

    recognition: Recognition
    lowered: LoweredModel
    graph: TracedGraph


def config(name: str, out: Path, **changes: object) -> ExportConfig:
    """An ONNX export of a digits model with the real test images."""
    made = ExportConfig(
        target="onnx",
        out=out,
        trust=("digits_net",),
        calib=SAMPLES / "test_images.npz",
        shapes=shape_ranges(["1x1x8x8"]),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@cache
def prepared(name: str) -> Prepared:
    """Load, recognise, lower and trace once."""
    settings = config(name, Path("unused"))
    source = load.run(SAMPLES / name, settings)
    inputs = settle(source.module, source.inputs, settings.shapes, None, dynamic_batch=True)
    recognition = recognise.run(source.module, seed=0)
    lowered = lower.run(source, recognition, GraphStyle(), example_tensors(inputs, 0), inputs)
    return Prepared(recognition, lowered, trace.run(lowered, inputs, settings))


def export_with(fault: Fault, name: str, out: Path, patch: pytest.MonkeyPatch) -> Bundle:
    """The whole pipeline, with ``fault`` applied to the graph between ``simplify`` and ``build``."""
    ready = prepared(name)
    real = simplify.run

    def simplify_then_break(graph: TracedGraph, settings: ExportConfig) -> TracedGraph:
        clean = real(graph, settings)
        model = onnx.ModelProto()
        model.CopyFrom(clean.model)
        fault(model)
        return replace(clean, model=model)

    patch.setattr(recognise, "run", lambda module, seed: ready.recognition)
    patch.setattr(trace, "run", lambda lowered, inputs, settings: ready.graph)
    patch.setattr(simplify, "run", simplify_then_break)
    return run_export(SAMPLES / name, config(name, out), Silence())
