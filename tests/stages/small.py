"""A network of one SCConv block, taken through the stages once: what the tests of later stages start from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from scconv_deploy.artifacts import (
    BuiltArtifact,
    LoweredModel,
    Recognition,
    SourceModel,
    TensorSpec,
    TracedGraph,
)
from scconv_deploy.config import ExportConfig, Precision, default_opset
from scconv_deploy.inputs import UNBOUNDED
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower, recognise, trace

CONFIG = ExportConfig(target="onnx")
IMAGE = TensorSpec(
    "image", "float32", ("batch", 3, 6, 6), (1, 3, 6, 6), (1, 3, 6, 6), (UNBOUNDED, 3, 6, 6), {}
)
EXAMPLE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Ready:
    """What the stages up to ``trace`` made."""

    source: SourceModel
    recognition: Recognition
    lowered: LoweredModel
    graph: TracedGraph


def network() -> nn.Sequential:
    """Convolution, BatchNorm with real statistics, SCConv block, BatchNorm; fresh and in training mode."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), scconv("F3", 8), nn.BatchNorm2d(8))
    for parameter in net.parameters():
        if parameter.ndim != 4:
            nn.init.normal_(parameter, 0.5, 0.5)
    net(torch.randn(4, 3, 6, 6))
    return net


def source_of(module: nn.Module) -> SourceModel:
    """As ``load`` hands on a module given in Python."""
    return SourceModel(module, "net", "module", None, None, (IMAGE,))


@cache
def ready() -> Ready:
    """Recognise, lower and trace once; never change what it returns."""
    source = source_of(network())
    recognition = recognise.run(source.module, seed=0)
    lowered = lower.run(source, recognition, GraphStyle(), [EXAMPLE], [IMAGE])
    return Ready(source, recognition, lowered, trace.run(lowered, (IMAGE,), CONFIG))


def half_config(precision: Precision, **changes: object) -> ExportConfig:
    """The configuration of an ONNX export in a half type."""
    made = ExportConfig(target="onnx", precision=precision, opset=default_opset(precision))
    return replace(made, **changes)  # type: ignore[arg-type]


@cache
def half_lowered(precision: Precision) -> LoweredModel:
    """Lowered once in a half type; never change what it returns."""
    ours = ready()
    return lower.run(ours.source, ours.recognition, GraphStyle(), [EXAMPLE], [IMAGE], precision)


@cache
def half_graph(precision: Precision) -> TracedGraph:
    """Traced once in a half type, with float32 outside; never change what it returns."""
    return trace.run(half_lowered(precision), (IMAGE,), half_config(precision))


def built_in(folder: Path, graph: TracedGraph, **changes: str) -> BuiltArtifact:
    """The graph as ``model.onnx`` in ``folder``."""
    path = folder / "model.onnx"
    path.write_bytes(graph.model.SerializeToString())
    return BuiltArtifact((path,), "onnxruntime", "fp32", {}, changes.get("not_executed"))
