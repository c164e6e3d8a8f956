"""Small convolutional models with fused nodes, as ``--form plugin`` writes them, for the blocked layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from scconv_deploy.scconv.fused_ops import attach_functions

SIZE = (9, 11)
HEAD = 'ir_version: 9, opset_import: ["": 20, "scconv": 1]'


def with_convolutions(
    path: Path, ending: str = "Relu", width: int = 32, groups: int = 4, sru: str = "SRU_soft", seed: int = 0
) -> onnx.ModelProto:
    """x (N, 16, *SIZE) -> Conv, SRU, two squeezes, two Convs, fuse, the ending, Conv -> y; written to ``path``.

    Args:
        path: where it is written.
        ending: operators between fuse and last convolution: ``Relu``, ``Add`` (of the SRU's input), ``AddRelu``,
            ``Broadcast`` (an Add of a constant per channel) or nothing.
        width: channels of the block.
        groups: of the SRU.
        sru: its operator.
        seed: of all weights.
    """
    half = width // 2
    ends = {
        "": "last = Identity(mixed)",
        "Relu": "last = Relu(mixed)",
        "Add": "last = Add(mixed, x0)",
        "AddRelu": "whole = Add(x0, mixed)\n last = Relu(whole)",
        "Broadcast": "last = Add(mixed, column)",
    }
    mask = ", mask" if "static" in sru else ""
    logit = "" if "static" in sru else ", logit: float = 0.0"
    text = f"""<{HEAD}>
    blocked (float[N, 16, {SIZE[0]}, {SIZE[1]}] x) => (float[N, {width}, {SIZE[0]}, {SIZE[1]}] y) {{
        start = Conv<kernel_shape=[1, 1]>(x, w0)
        x0 = Relu(start)
        y_a, y_b = scconv.{sru}<groups: int = {groups}, epsilon: float = 0.00001{logit}>(x0, scale, shift{mask})
        up = Conv<kernel_shape=[1, 1]>(y_a, w1)
        low = Conv<kernel_shape=[1, 1]>(y_b, w2)
        y1 = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(up, w3)
        y2 = Conv<kernel_shape=[1, 1]>(low, w4)
        mixed = scconv.CRUFuse_joint_affine(y1, y2, scale, shift)
        {ends[ending]}
        y = Conv<kernel_shape=[1, 1]>(last, w5)
    }}"""
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(seed)
    shapes = {
        "w0": (width, 16, 1, 1),
        "w1": (half, half, 1, 1),
        "w2": (half, half, 1, 1),
        "w3": (width, half, 3, 3),
        "w4": (width, half, 1, 1),
        "w5": (width, width, 1, 1),
        "scale": (width,),
        "shift": (width,),
        "mask": (width,),
        "column": (width, 1, 1),
    }
    for name, shape in shapes.items():
        # Small enough that no softmax ends in one channel.
        values = (generator.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        values = (values > 0).astype(np.float32) if name == "mask" else values
        used = any(name in node.input for node in model.graph.node)
        if used:
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    # As the exporter writes them: one name for the batch everywhere.
    channels = {"y_a": half, "y_b": half} | dict.fromkeys(("x0", "y1", "y2", "mixed", "last"), width)
    model.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", count, *SIZE])
        for name, count in channels.items()
    )
    attach_functions(model)
    onnx.save(model, path)
    return model
