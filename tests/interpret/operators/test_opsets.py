"""Older forms of operators, paddings and corner attributes, against ONNX Runtime on the same graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from scconv_deploy.errors import InputError
from scconv_deploy.interpret.program import OnnxProgram, unsupported
from scconv_deploy.interpret.runner import to_numpy
from scconv_deploy.interpret.values import from_numpy
from tests.interpret.graphs import one_node, ort_run

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


X = floats(2, 4, 7, 6)
LINE = floats(2, 4, 9)
CUBE = floats(1, 2, 5, 4, 6)
W = floats(6, 4, 3, 3)
GROUPED = floats(4, 2, 3, 3)
TRANSPOSED = floats(4, 3, 3, 3)
NORM = {i: np.abs(floats(4)) + 0.5 for i in range(1, 5)}

Case = tuple[str, int, list[np.ndarray], dict[int, np.ndarray], dict[str, Any]]
CASES: dict[str, Case] = {
    "conv": ("Conv", 11, [X], {1: W, 2: floats(6)}, {"pads": [1, 1, 1, 1]}),
    "conv unequal pads": ("Conv", 11, [X], {1: W}, {"pads": [0, 2, 1, 0], "strides": [2, 1]}),
    "conv groups dilated": ("Conv", 11, [X], {1: GROUPED}, {"group": 2, "dilations": [2, 1]}),
    "conv same upper": ("Conv", 11, [X], {1: W}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "conv same lower": ("Conv", 11, [X], {1: W}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "conv same stride 1": ("Conv", 11, [X], {1: floats(6, 4, 2, 2)}, {"auto_pad": "SAME_LOWER"}),
    "conv valid": ("Conv", 11, [X], {1: W}, {"auto_pad": "VALID"}),
    "conv 1d": ("Conv", 11, [LINE], {1: floats(3, 4, 3)}, {"pads": [1, 1]}),
    "conv 3d": ("Conv", 11, [CUBE], {1: floats(3, 2, 2, 2, 2)}, {"pads": [0, 1, 1, 0, 1, 1]}),
    "conv computed weight": ("Conv", 11, [X, W], {}, {"kernel_shape": [3, 3]}),
    "transposed": ("ConvTranspose", 11, [X], {1: TRANSPOSED}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "transposed unequal": ("ConvTranspose", 11, [X], {1: TRANSPOSED}, {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
    "transposed output padding": (
        "ConvTranspose",
        11,
        [X],
        {1: TRANSPOSED, 2: floats(3)},
        {"strides": [2, 2], "output_padding": [1, 1]},
    ),
    "transposed groups": ("ConvTranspose", 11, [X], {1: floats(4, 3, 2, 2)}, {"group": 2}),
    "batch norm 7": ("BatchNormalization", 7, [X], NORM, {"epsilon": 1e-3}),
    "batch norm 9": ("BatchNormalization", 9, [X], NORM, {}),
    "batch norm 15": ("BatchNormalization", 15, [LINE], NORM, {}),
    "batch norm computed": ("BatchNormalization", 15, [X, NORM[1]], {i: NORM[i] for i in (2, 3, 4)}, {}),
    "softmax flattened": ("Softmax", 11, [X], {}, {"axis": 1}),
    "softmax last": ("Softmax", 11, [LINE], {}, {"axis": 2}),
    "softmax default 11": ("Softmax", 11, [LINE], {}, {}),
    "log softmax flattened": ("LogSoftmax", 11, [X], {}, {"axis": 2}),
    "softmax 13": ("Softmax", 13, [X], {}, {"axis": 1}),
    "clip 7": ("Clip", 7, [X], {}, {"min": -0.5, "max": 0.5}),
    "clip 7 one side": ("Clip", 7, [X], {}, {"max": 0.5}),
    "clip 13": ("Clip", 13, [X], {1: np.array(-0.3, np.float32), 2: np.array(0.3, np.float32)}, {}),
    "clip fed bounds": ("Clip", 13, [X, np.array(-0.3, np.float32), np.array(0.3, np.float32)], {}, {}),
    "slice 9": ("Slice", 9, [X], {}, {"starts": [1, -3], "ends": [9, 6], "axes": [2, 3]}),
    "slice 11": ("Slice", 11, [X], {1: ints(5, 0), 2: ints(-99, 5), 3: ints(2, 3), 4: ints(-2, 2)}, {}),
    "upsample 9": ("Upsample", 9, [X], {1: np.array([1, 1, 2, 3], np.float32)}, {"mode": "nearest"}),
    "upsample 9 linear": ("Upsample", 9, [X], {1: np.array([1, 1, 2, 2], np.float32)}, {"mode": "linear"}),
    "resize 10": ("Resize", 10, [X], {1: np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}),
    "reduce sum 11": ("ReduceSum", 11, [X], {}, {"axes": [1, -1], "keepdims": 0}),
    "reduce sum 13": ("ReduceSum", 13, [X], {1: ints(2)}, {}),
    "reduce sum 13 nothing": ("ReduceSum", 13, [X], {}, {"noop_with_empty_axes": 1}),
    "reduce mean 13": ("ReduceMean", 13, [X], {}, {"axes": [2, 3]}),
    "reduce max all": ("ReduceMax", 13, [X], {}, {"keepdims": 0}),
    "reduce prod": ("ReduceProd", 13, [X], {}, {"axes": [1, 2], "keepdims": 0}),
    "squeeze 11": ("Squeeze", 11, [floats(1, 3, 1)], {}, {"axes": [0]}),
    "squeeze 13 all": ("Squeeze", 13, [floats(1, 3, 1)], {}, {}),
    "unsqueeze 11": ("Unsqueeze", 11, [LINE], {}, {"axes": [0, 4]}),
    "unsqueeze 13": ("Unsqueeze", 13, [LINE], {1: ints(-1, 0)}, {}),
    "pad 10": ("Pad", 10, [X], {}, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 2.0}),
    "pad 11 reflect": ("Pad", 11, [X], {1: ints(0, 0, 2, 3, 0, 0, 1, 0)}, {"mode": "reflect"}),
    "pad 13 edge": ("Pad", 13, [X], {1: ints(1, 0, 2, 3, 0, 0, 1, 0)}, {"mode": "edge"}),
    "pad 19 wrap": ("Pad", 19, [X], {1: ints(0, 0, 2, 3, 0, 1, 1, 0)}, {"mode": "wrap"}),
    "pad negative": ("Pad", 13, [X], {1: ints(0, 0, -1, 1, 0, 0, 1, -2)}, {}),
    "average": ("AveragePool", 11, [X], {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "average counted": (
        "AveragePool",
        11,
        [X],
        {},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1, "strides": [2, 2]},
    ),
    "average unequal": ("AveragePool", 11, [X], {}, {"kernel_shape": [3, 3], "pads": [0, 1, 2, 0]}),
    "average unequal counted": (
        "AveragePool",
        11,
        [X],
        {},
        {"kernel_shape": [3, 3], "pads": [0, 1, 2, 0], "count_include_pad": 1},
    ),
    "average same": ("AveragePool", 11, [X], {}, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "average ceil": ("AveragePool", 19, [X], {}, {"kernel_shape": [2, 4], "strides": [2, 3], "ceil_mode": 1}),
    "max": ("MaxPool", 12, [X], {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "max unequal": ("MaxPool", 12, [X], {}, {"kernel_shape": [3, 3], "pads": [0, 2, 1, 0]}),
    "max ceil dilated": (
        "MaxPool",
        12,
        [X],
        {},
        {"kernel_shape": [2, 2], "dilations": [2, 1], "ceil_mode": 1, "strides": [2, 2]},
    ),
    "max same lower": ("MaxPool", 12, [X], {}, {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    "global": ("GlobalAveragePool", 11, [CUBE], {}, {}),
    "gemm 7": ("Gemm", 7, [floats(3, 4)], {1: floats(4, 5), 2: floats(3, 1)}, {"alpha": 0.5, "beta": 2.0}),
    "gemm layer": ("Gemm", 13, [floats(3, 4)], {1: floats(5, 4), 2: floats(5)}, {"transB": 1}),
    "gemm turned": ("Gemm", 13, [floats(4, 3)], {1: floats(4, 5)}, {"transA": 1}),
    "prelu": ("PRelu", 9, [X], {1: floats(4, 1, 1)}, {}),
    "dropout 7": ("Dropout", 7, [X], {}, {"ratio": 0.5}),
    "dropout 13": ("Dropout", 13, [X], {1: np.array(0.5, np.float32)}, {}),
    "group norm 21": ("GroupNormalization", 21, [X], {1: floats(4), 2: floats(4)}, {"num_groups": 2}),
    "instance norm": ("InstanceNormalization", 11, [X], {1: floats(4), 2: floats(4)}, {}),
    "instance norm one pixel": ("InstanceNormalization", 11, [X[:, :, :1, :1]], {1: floats(4), 2: floats(4)}, {}),
    "integer division": ("Div", 13, [ints(7, -7, 7, -7), ints(2, 2, -2, -2)], {}, {}),
    "integer modulo": ("Mod", 13, [ints(7, -7, 7, -7), ints(3, 3, -3, -3)], {}, {}),
    "expand both ways": ("Expand", 13, [floats(3, 1)], {1: ints(2, 1, 4)}, {}),
    "gather negative": ("Gather", 13, [X], {1: np.array([[0, -1], [2, 1]], np.int64)}, {"axis": 1}),
    "gather one": ("Gather", 13, [X], {1: np.array(-1, np.int64)}, {"axis": 2}),
    "reshape 0 and -1": ("Reshape", 13, [X], {1: ints(0, -1, 3)}, {}),
    "flatten 0": ("Flatten", 13, [X], {}, {"axis": 0}),
    "flatten last": ("Flatten", 13, [X], {}, {"axis": -1}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_onnxruntime(name: str) -> None:
    op_type, opset, arrays, constants, attributes = CASES[name]
    proto, feeds = one_node(op_type, arrays, constants, opset, **attributes)
    _compare(proto, feeds)


def _compare(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    program = OnnxProgram(proto)
    kept = {n: a.copy() for n, a in feeds.items()}
    ours = program.evaluate({n: from_numpy(a) for n, a in feeds.items()}, program.output_names)
    for name, wanted in zip(program.output_names, ort_run(proto, feeds), strict=True):
        made = to_numpy(ours[name])
        assert (made.dtype, made.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-5)
    for name, before in kept.items():
        np.testing.assert_array_equal(feeds[name], before)


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_split(opset: int) -> None:
    x = floats(2, 5, 3)
    if opset == 11:
        proto, feeds = one_node("Split", [x], {}, opset, outputs=2, axis=1, split=[2, 3])
    elif opset == 13:
        proto, feeds = one_node("Split", [x], {1: ints(1, 4)}, opset, outputs=2, axis=1)
    else:
        proto, feeds = one_node("Split", [x], {}, opset, outputs=2, axis=1, num_outputs=2)
    _compare(proto, feeds)


@pytest.mark.parametrize("opset", [9, 10, 11])
def test_top_k(opset: int) -> None:
    x = floats(3, 6)
    if opset == 9:
        proto, feeds = one_node("TopK", [x], {}, opset, outputs=2, k=2, axis=1)
    else:
        proto, feeds = one_node("TopK", [x], {1: ints(2)}, opset, outputs=2, axis=1)
    _compare(proto, feeds)


RESIZES = [
    (mode, where, rounding)
    for mode in ("nearest", "linear", "cubic")
    for where in ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
    for rounding in (
        ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil") if mode == "nearest" else ("floor",)
    )
]


@pytest.mark.parametrize("sizes", [(14, 12), (10, 4), (3, 3)])
@pytest.mark.parametrize(("mode", "where", "rounding"), RESIZES)
def test_resize_to_sizes(mode: str, where: str, rounding: str, sizes: tuple[int, int]) -> None:
    proto, feeds = _resize({3: ints(2, 4, *sizes)}, mode=mode, where=where, rounding=rounding)
    _compare(proto, feeds)


@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.5, 0.5), (1.7, 0.7)])
@pytest.mark.parametrize(
    ("mode", "where"), [("nearest", "asymmetric"), ("linear", "half_pixel"), ("cubic", "half_pixel")]
)
def test_resize_by_scales(mode: str, where: str, scales: tuple[float, float]) -> None:
    proto, feeds = _resize(
        {2: np.array([1, 1, *scales], np.float32)}, mode=mode, where=where, rounding="floor"
    )
    _compare(proto, feeds)


def _resize(
    constants: dict[int, np.ndarray], mode: str, where: str, rounding: str
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    place = max(constants)
    names = ["x", "", "", ""][: place + 1]
    names[place] = "k"
    node = helper.make_node(
        "Resize", names, ["y"], mode=mode, coordinate_transformation_mode=where, nearest_mode=rounding
    )
    proto, feeds = one_node("Identity", [X], {}, 13)
    proto.graph.node[0].CopyFrom(node)
    proto.graph.input[0].name, proto.graph.output[0].name = "x", "y"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(constants[place], "k"))
    return proto, {"x": feeds["v0"]}


def test_group_norm_18_repeats_its_scale_per_group() -> None:
    """ONNX Runtime has no kernel for it; opset 21 with the numbers repeated says the same."""
    scale, bias = floats(2), floats(2)
    old, feeds = one_node("GroupNormalization", [X], {1: scale, 2: bias}, 18, num_groups=2)
    new, _ = one_node("GroupNormalization", [X], {1: scale.repeat(2), 2: bias.repeat(2)}, 21, num_groups=2)
    x = torch.from_numpy(X)
    torch.testing.assert_close(OnnxProgram(old)(x), OnnxProgram(new)(x))
    np.testing.assert_allclose(OnnxProgram(new)(x).numpy(), ort_run(new, feeds)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("op_type", "attributes", "phrase"),
    [
        ("NonMaxSuppression", {}, "NonMaxSuppression (node 'it')"),
        ("MaxPool", {"kernel_shape": [2, 2], "outputs": 2}, "MaxPool with its Indices output (node 'it')"),
        ("Resize", {"mode": "linear", "antialias": 1}, "Resize with antialias"),
        ("Cast", {"to": 8}, "Cast to element type 8 (node 'it')"),
    ],
)
def test_what_cannot_run_is_named(op_type: str, attributes: dict[str, Any], phrase: str) -> None:
    proto, _ = one_node(op_type, [X], {}, 18, **attributes)
    (said,) = unsupported(proto)
    assert said.startswith(phrase)
    with pytest.raises(InputError, match="cannot be run in PyTorch here"):
        OnnxProgram(proto)


def test_a_wrong_pad_is_seen() -> None:
    """Broken twin: the comparison fails for a graph whose pads are mirrored."""
    good, feeds = one_node("Conv", [X], {1: W}, 11, pads=[0, 2, 1, 0])
    bad, _ = one_node("Conv", [X], {1: W}, 11, pads=[1, 0, 0, 2])
    wanted = ort_run(good, feeds)[0]
    assert np.abs(OnnxProgram(bad)(torch.from_numpy(X)).detach().numpy() - wanted).max() > 0.1
