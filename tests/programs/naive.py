"""Small networks, exported to ONNX the ways users export: torch's two exporters, onnxsim, names stripped."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import cache

import onnx
import onnxsim
import torch
from torch import Tensor, nn

from scconv_deploy.quiet import quiet_exporter
from scconv_deploy.scconv.reference.families import scconv

C = 16
SIZE = (1, 3, 8, 8)


class Residual(nn.Module):
    """Stem, ``relu(bn(block(x)) + x)`` for each block, head."""

    def __init__(self, *blocks: nn.Module, channels: int = C) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.layers = nn.ModuleList(blocks)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in blocks)
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        for block, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(block(x)) + x)
        return self.head(x.mean((2, 3)))


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics away from their initial values, so that nothing is one or zero by chance."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.add_(0.2 * torch.randn(tensor.shape, generator=source))
    return module.eval()


def by_dynamo(module: nn.Module, size: tuple[int, ...] = SIZE) -> onnx.ModelProto:
    """torch's current exporter, its defaults: fixed shapes, constants folded."""
    with torch.no_grad(), quiet_exporter(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, (torch.randn(size),), dynamo=True, verbose=False)
    assert program is not None
    return program.model_proto


def by_tracer(module: nn.Module, size: tuple[int, ...] = SIZE) -> onnx.ModelProto:
    """torch's older exporter with a free batch."""
    stream = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.randn(size),), stream, dynamo=False, opset_version=17,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "N"}},
        )  # fmt: skip
    return onnx.load_model_from_string(stream.getvalue())


def simplified(module: nn.Module, size: tuple[int, ...] = SIZE) -> onnx.ModelProto:
    """The older exporter's graph after onnxsim."""
    return onnxsim.simplify(by_tracer(module, size))[0]


EXPORTERS: dict[str, Callable[..., onnx.ModelProto]] = {
    "dynamo": by_dynamo,
    "tracer": by_tracer,
    "onnxsim": simplified,
}


@cache
def family_net(name: str, exporter: str) -> onnx.ModelProto:
    """A residual network with one block of the family."""
    torch.manual_seed(0)
    return EXPORTERS[exporter](shaken(Residual(scconv(name, C))))


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without node names and metadata, and with every value renamed: only the graph's shape is left."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    kept = {v.name for v in [*graph.input, *graph.output]}
    values = [*(t.name for t in graph.initializer), *(v for n in graph.node for v in n.output if v)]
    new = {name: f"v{i}" for i, name in enumerate(values) if name not in kept}
    for node in graph.node:
        node.name = ""
        del node.metadata_props[:]
        node.input[:] = [new.get(v, v) for v in node.input]
        node.output[:] = [new.get(v, v) for v in node.output]
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    del graph.value_info[:]
    return bare
