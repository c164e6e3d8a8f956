"""Networks and their naive exports (made once per session): the four families, the paper's form, a BN net."""

from __future__ import annotations

import io
from functools import cache

import onnx
import torch
from torch import Tensor, nn

from scconv_deploy.scconv.reference import scconv

NETS = ("paper", "F0", "F1", "F2", "F3", "bn")
Dim = torch.export.Dim
FREE = ({0: Dim("batch", max=64), 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)


class Net(nn.Module):
    """(N, 3, H, W) -> (N, 5); ``layer1.0`` and ``layer1.1`` are the Conv and BatchNorm behind the block."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.block: nn.Module = nn.Identity() if name == "bn" else scconv(name, 16)
        self.layer1 = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        # Not ReLU: F0's norm divides by the deviation of a group, and torch's exporter drops its 1e-10.
        x = torch.tanh(self.bn(self.stem(x)))
        made: Tensor = self.fc(self.layer1(self.block(x)).mean((2, 3)))
        return made


@cache
def net(name: str) -> Net:
    """In eval mode, float32, statistics of the batch norms not trivial. Not to be changed."""
    torch.manual_seed(0)
    made = Net(name).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return made


@cache
def exported(name: str, dynamo: bool) -> onnx.ModelProto:
    """As a user exports it: batch, height and width free."""
    x = torch.randn(2, 3, 16, 12)
    if dynamo:
        program = torch.onnx.export(net(name), (x,), dynamo=True, verbose=False, dynamic_shapes=FREE)
        assert program is not None
        return program.model_proto
    file = io.BytesIO()
    axes = {"x": {0: "b", 2: "h", 3: "w"}}
    torch.onnx.export(
        net(name),
        (x,),
        file,  # type: ignore[arg-type]
        dynamo=False,
        input_names=["x"],
        dynamic_axes=axes,
        do_constant_folding=False,
    )
    return onnx.load_model_from_string(file.getvalue())


def image(batch: int = 2, height: int = 16, width: int = 12) -> Tensor:
    """The same numbers for the same shape."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
