"""A family, a width and a size -> two ONNX models to race: one SCConv block, and the 3x3 convolution it replaces.

The block is written as an export writes it (:func:`~scconv_deploy.scconv.emit.emit_block`), with the BatchNorm
behind it folded into the fuse as in a network; the convolution has a bias for the same reason. Weights are random
and seeded: the time does not depend on them. Shapes are fixed, so that the runtime folds all it can.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from torch import Tensor

from scconv_deploy.config import DEFAULT_OPSET, Form
from scconv_deploy.scconv.deploy import DeploySCConv
from scconv_deploy.scconv.emit import emit_block
from scconv_deploy.scconv.fused_ops import attach_functions, declare_domain
from scconv_deploy.scconv.operator import BlockPlan
from scconv_deploy.scconv.reference.families import family_spec
from scconv_deploy.scconv.spec import SCConvSpec
from scconv_deploy.scconv.style import GraphStyle

KERNEL = 3
INPUT, OUTPUT = "x", "y"
IR_VERSION = 10
FLOAT = int(onnx.TensorProto.FLOAT)

Shape = tuple[int, int, int, int]


def block_graph(family: str, form: Form, shape: Shape, seed: int) -> onnx.ModelProto:
    """One block of ``family`` on ``shape`` (N, C, H, W), float32.

    Raises:
        InputError: unknown family, or a width that it cannot have.
    """
    spec = family_spec(family, shape[1])
    style = GraphStyle(fused=form is Form.PLUGIN)
    block = DeploySCConv(spec, random_weights(spec, seed), style).eval()
    if block.cru is not None:
        generator = torch.Generator().manual_seed(seed + 1)
        block.cru.fold_batch_norm(
            torch.rand(spec.c_out, generator=generator) + 0.5, torch.randn(spec.c_out, generator=generator)
        )
    constants = {n: t for n, t in block.state_dict().items() if isinstance(t, Tensor)}
    names = [f"block.{n}" for n in constants]
    nodes, small = emit_block(
        BlockPlan(spec, style, tuple(constants)), INPUT, OUTPUT, names, "block", shape, FLOAT
    )
    tensors = [
        onnx.numpy_helper.from_array(t.contiguous().numpy(), n)
        for n, t in zip(names, constants.values(), strict=True)
    ]
    model = _model(nodes, [*tensors, *small], shape, (shape[0], spec.c_out, *shape[2:]))
    if form is Form.PLUGIN:
        declare_domain(model)
        attach_functions(model)
    return model


def plain_graph(shape: Shape, seed: int) -> onnx.ModelProto:
    """The dense 3x3 convolution of the same width, with a bias."""
    generator = torch.Generator().manual_seed(seed)
    channels = shape[1]
    weight = torch.randn(channels, channels, KERNEL, KERNEL, generator=generator) / (KERNEL * channels**0.5)
    node = onnx.helper.make_node(
        "Conv", [INPUT, "weight", "bias"], [OUTPUT], name="plain/Conv_0", pads=[KERNEL // 2] * 4
    )
    tensors = [
        onnx.numpy_helper.from_array(weight.numpy(), "weight"),
        onnx.numpy_helper.from_array(torch.randn(channels, generator=generator).numpy(), "bias"),
    ]
    return _model([node], tensors, shape, shape)


def random_weights(spec: SCConvSpec, seed: int) -> dict[str, Tensor]:
    """Every tensor the specification asks for, by role."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    if spec.sru is not None:
        # Positive, as trained gammas mostly are: their sum is then not near zero.
        weights["gamma"] = torch.rand(spec.sru.channels, generator=generator) + 0.5
        weights["beta"] = 0.1 * torch.randn(spec.sru.channels, generator=generator)
    if spec.cru is not None:
        for role in ("squeeze_up", "squeeze_low", "gwc", "pwc1", "pwc2"):
            conv = getattr(spec.cru, role)
            size = (conv.c_out, conv.c_in // conv.groups, *conv.kernel)
            fan_in = conv.c_in // conv.groups * conv.kernel[0] * conv.kernel[1]
            weights[f"{role}.weight"] = torch.randn(size, generator=generator) / fan_in**0.5
            if conv.bias:
                weights[f"{role}.bias"] = 0.1 * torch.randn(conv.c_out, generator=generator)
    return weights


def _model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[onnx.TensorProto],
    given: Sequence[int],
    made: Sequence[int],
) -> onnx.ModelProto:
    graph = onnx.helper.make_graph(
        list(nodes),
        "block",
        [onnx.helper.make_tensor_value_info(INPUT, FLOAT, list(given))],
        [onnx.helper.make_tensor_value_info(OUTPUT, FLOAT, list(made))],
        list(tensors),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", DEFAULT_OPSET)])
    model.ir_version = IR_VERSION
    return model
