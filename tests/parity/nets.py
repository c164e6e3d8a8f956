"""A network of three SCConv blocks of three families, taken through the stages in each precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from scconv_deploy.artifacts import BuiltArtifact, LoweredModel, SourceModel, TensorSpec, TracedGraph
from scconv_deploy.config import ExportConfig, Precision, default_opset
from scconv_deploy.contracts import Silence
from scconv_deploy.inputs import UNBOUNDED
from scconv_deploy.scconv.reference import scconv
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.stages import lower, recognise, simplify, trace, verify
from scconv_deploy.verdicts import ParityReport

IMAGE = TensorSpec(
    "image", "float32", ("batch", 3, 8, 8), (1, 3, 8, 8), (1, 3, 8, 8), (UNBOUNDED, 3, 8, 8), {}
)
BLOCKS = ("hard.0", "soft.0", "flat.0")
"""paper (hard gate, pair softmax), F3 (soft gate, joint softmax), F1 (flat groups, ``>=``)."""
EXAMPLE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Network(nn.Module):
    """Stem, three blocks each followed by a BatchNorm and a ReLU, a classifier."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.hard = nn.Sequential(scconv("paper", 16), nn.BatchNorm2d(16))
        self.soft = nn.Sequential(scconv("F3", 16), nn.BatchNorm2d(16))
        self.flat = nn.Sequential(scconv("F1", 16), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 5)
        with torch.no_grad():
            self.stem.weight.mul_(gain)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 5)."""
        x = torch.relu(self.stem(x))
        x = torch.relu(self.hard(x))
        x = torch.relu(self.soft(x)) + x
        made: Tensor = self.head(torch.relu(self.flat(x)).mean(dim=(2, 3)))
        return made


def network(gain: float = 1.0) -> Network:
    """Fresh, with statistics, biases and betas as training leaves them, in eval mode."""
    torch.manual_seed(0)
    net = Network(gain)
    for parameter in net.parameters():
        if parameter.ndim != 4:
            nn.init.normal_(parameter, 0.5, 0.3)
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(16, 3, 8, 8))
    return net.eval()


@dataclass(frozen=True)
class Ready:
    """What the stages before ``build`` made; never change it."""

    lowered: LoweredModel
    graph: TracedGraph
    config: ExportConfig


@cache
def ready(precision: Precision, gain: float = 1.0, style: GraphStyle | None = None) -> Ready:
    """The network in one precision."""
    made = made_ready(network(gain), precision, style=style)
    assert {b.path for b in made.lowered.recognition.blocks} == set(BLOCKS)
    return made


def made_ready(
    net: nn.Module, precision: Precision, spec: TensorSpec = IMAGE, style: GraphStyle | None = None
) -> Ready:
    """Any network that takes ``spec``."""
    config = ExportConfig("onnx", precision=precision, opset=default_opset(precision))
    source = SourceModel(net, "net", "module", None, None, (spec,))
    recognition = recognise.run(source.module, seed=0)
    example = EXAMPLE[: spec.optimum[0]] if spec.shape[0] == spec.optimum[0] else EXAMPLE
    lowered = lower.run(source, recognition, style or GraphStyle(), [example], [spec], precision)
    return Ready(lowered, simplify.run(trace.run(lowered, (spec,), config), config), config)


def copied(graph: TracedGraph) -> onnx.ModelProto:
    """A private copy of the ONNX model."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    return model


def samples(count: int = 8) -> dict[str, np.ndarray]:
    """Stand-ins for the user's samples."""
    drawn = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    return {"image": drawn.numpy()}


def verified(
    made: Ready, model: onnx.ModelProto, folder: Path, real: bool = False, **changes: object
) -> ParityReport:
    """``verify`` of ``model`` as the artifact. ``changes`` are of the configuration."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    built = BuiltArtifact((path,), "onnxruntime", made.config.precision.value, {})
    config = replace(made.config, **changes)  # type: ignore[arg-type]
    given = samples() if real else None
    return verify.run(built, made.graph, made.lowered, given, config, Silence())[0]
