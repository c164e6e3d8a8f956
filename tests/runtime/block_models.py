"""Networks of one SCConv block of any kind between convolutions, written by the exporter's own emitter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.fused_ops import attach_functions, declare_domain
from scconv_deploy.scconv.operator import BlockCall
from scconv_deploy.scconv.reference import ReferenceSCConv, constants
from scconv_deploy.scconv.spec import (
    Comparison,
    ConvSpec,
    CRUSpec,
    Fuse,
    GammaWeight,
    Gate,
    Gated,
    Norm,
    Reconstruct,
    SCConvSpec,
    SRUSpec,
    Y2Order,
)
from scconv_deploy.scconv.style import GraphStyle
from scconv_deploy.scconv.writer import Size

FLOAT = onnx.TensorProto.FLOAT
INPUTS = 16
SIZE = (7, 9)


@dataclass(frozen=True, slots=True)
class Case:
    """A block and what is around it.

    ``stride`` is the squeezes'; ``dense``: Y1 as one convolution; ``affine``: with a BatchNorm folded in.
    """

    channels: int = 64
    up: int = 32
    squeezed: tuple[int, int] = (16, 16)
    gwc_groups: int = 2
    kernel: int = 3
    dilation: int = 1
    stride: int = 1
    bias: bool = False
    dense: bool = False
    affine: bool = True
    y2: Y2Order = Y2Order.PWC2_LOW
    fuse: Fuse = Fuse.JOINT
    gate: Gate = Gate.SOFT
    comparison: Comparison = Comparison.GT
    gated: Gated = Gated.INPUT
    reconstruct: Reconstruct = Reconstruct.CROSS
    norm: Norm = Norm.GROUP_NORM
    groups: int = 4
    shape: tuple[Size, Size, Size] = ("N", *SIZE)
    ending: str = "relu"
    seed: int = 0


def spec_of(case: Case) -> SCConvSpec:
    """The block's specification."""
    c, (up, low) = case.channels, case.squeezed
    pad = case.dilation * (case.kernel // 2)
    taps, stride = (case.kernel, case.kernel), (case.stride, case.stride)
    pwc2 = c if case.y2 is Y2Order.PWC2_ONLY else c - low
    is_static = case.gate is Gate.STATIC
    sru = SRUSpec(
        c,
        case.norm,
        case.groups,
        1e-5,
        GammaWeight.SOFTMAX if is_static else GammaWeight.SUM,
        case.gate,
        case.comparison,
        1 / c if is_static else 0.5,
        case.gated,
        case.reconstruct,
    )
    gwc = ConvSpec(up, c, taps, (1, 1), (pad, pad), (case.dilation,) * 2, case.gwc_groups, case.bias)
    cru = CRUSpec(
        case.up,
        c - case.up,
        squeeze_up=ConvSpec(case.up, up, stride=stride, bias=case.bias),
        squeeze_low=ConvSpec(c - case.up, low, stride=stride, bias=case.bias),
        gwc=gwc,
        pwc1=ConvSpec(up, c, bias=case.bias),
        pwc2=ConvSpec(low, pwc2, bias=case.bias),
        y2_order=case.y2,
        fuse=case.fuse,
    )
    return SCConvSpec(sru, cru)


def model_of(case: Case) -> onnx.ModelProto:
    """x (N, INPUTS, H, W) -> Conv, ReLU, the block, the ending (of ReLU, an Add of the block's input), Conv -> y."""
    torch.manual_seed(case.seed)
    module = ReferenceSCConv(spec_of(case)).eval()
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight, std=float(np.prod(m.weight.shape[1:])) ** -0.5)
    with torch.no_grad():
        assert module.sru is not None
        module.sru.gamma.uniform_(0.5, 1.5)
        module.sru.beta.normal_(std=0.2)
    style = GraphStyle(fused=True, dense_y1_below=1000 if case.dense else 0)
    deploy = DeploySCConv(module.spec, constants(module.double()), style)
    if case.affine:
        assert deploy.cru is not None
        deploy.cru.fold_batch_norm(
            torch.linspace(-2, 2, case.channels).double(), torch.linspace(1, -1, case.channels).double()
        )
    call = BlockCall(deploy.float())
    names = [f"b.{name}" for name in call.plan.constants]
    batch, height, width = case.shape
    nodes, small = emit_block(
        call.plan, "x1", "mixed", names, "b", (batch, case.channels, height, width), FLOAT
    )
    stored = [
        onnx.numpy_helper.from_array(tensor.detach().numpy(), name)
        for name, tensor in zip(names, call.buffers(), strict=True)
    ]
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    generator = np.random.default_rng(case.seed)
    ends = {name: generator.normal(size=shape) for name, shape in _ends(case.channels).items()}
    last = {"": "mixed", "add": "whole"}.get(case.ending, "last")
    total = "whole" if "add" in case.ending else "mixed"
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["x", "w0"], ["x0"], kernel_shape=[1, 1]),
            node("Relu", ["x0"], ["x1"]),
            *nodes,
            *([node("Add", ["mixed", "x1"], ["whole"])] if "add" in case.ending else []),
            *([node("Relu", [total], ["last"])] if "relu" in case.ending else []),
            node("Conv", [last, "w1"], ["y"], kernel_shape=[1, 1]),
        ],
        "block",
        [value("x", FLOAT, [batch, INPUTS, height, width])],
        [value("y", FLOAT, [batch, INPUTS, *_kept(case, height, width)])],
        [*stored, *small, *(onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in ends.items())],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    declare_domain(model)
    typed = ["x1", "mixed", *({last, total} - {"mixed"})]
    shape = [batch, case.channels, *_kept(case, height, width)]
    model.graph.value_info.extend(value(name, FLOAT, shape) for name in typed)
    attach_functions(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def write(case: Case, path: Path) -> Path:
    """:func:`model_of` as a file."""
    onnx.save(model_of(case), path)
    return path


def image(case: Case, batch: int = 2, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A random input of the network."""
    shape = (batch, INPUTS, *size)
    return np.random.default_rng(case.seed + 7).normal(size=shape).astype(np.float32)


def _ends(channels: int) -> dict[str, tuple[int, ...]]:
    return {"w0": (channels, INPUTS, 1, 1), "w1": (INPUTS, channels, 1, 1)}


def _kept(case: Case, height: Size, width: Size) -> list[Size]:
    return [height, width] if case.stride == 1 else ["h2", "w2"]
