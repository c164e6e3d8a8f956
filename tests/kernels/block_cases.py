"""One SCConv block with random weights: as plain tensors, as float64 truth, and as a model of one ``Block`` node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from torch.nn.functional import conv2d

from scconv_deploy.scconv.fused_ops import DOMAIN, VERSION
from tests.kernels.forms import image, sru_case
from tests.kernels.reference import Expected, SRUCase, fuse, sru


@dataclass(frozen=True)
class BlockCase:
    """Weights as convolutions have them, (outputs, inputs of a group, k, k)."""

    unit: SRUCase
    fuse: str
    groups: int
    copies: bool
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        return len(self.unit.scale)

    @property
    def kernel(self) -> int:
        return self.weights["gwc"].shape[2]

    @property
    def outputs(self) -> int:
        return len(self.weights["gwc"])

    @property
    def copied_from(self) -> int:
        """First of y2's channels that are ``low`` itself."""
        return self.outputs - len(self.weights["squeeze_low"]) * self.copies


def block_case(
    operator: str,
    fuse: str,
    block: int,
    *,
    half: int = 1,
    up: int = 1,
    low: int = 1,
    per_group: int = 1,
    groups: int = 2,
    up_inputs: int = 0,
    kernel: int = 3,
    copies: bool = True,
    norm_groups: int = 4,
    seed: int = 0,
) -> BlockCase:
    """All widths in blocks: of C/2, of both squeezes and of a group's outputs; ``up_inputs`` 0 stands for C/2."""
    generator = np.random.default_rng(seed + 7)
    channels, outputs = 2 * half * block, groups * per_group * block
    taken = (up_inputs or half) * block
    shapes = {
        "squeeze_up": (up * block, taken, 1, 1),
        "squeeze_low": (low * block, channels - taken, 1, 1),
        "gwc": (outputs, up * block // groups, kernel, kernel),
        "pwc1": (outputs, up * block, 1, 1),
        "y2": (outputs, low * block, 1, 1),
    }
    weights = {
        name: (generator.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    sizes = {"squeeze_up_bias": up * block, "squeeze_low_bias": low * block}
    sizes |= dict.fromkeys(("y1_bias", "y2_bias", "scale", "shift"), outputs)
    weights |= {name: (generator.normal(size=n) * 0.3).astype(np.float32) for name, n in sizes.items()}
    own = up * block // groups
    for group in range(groups):
        rows = slice(group * per_group * block, (group + 1) * per_group * block)
        weights["pwc1"][rows, group * own : (group + 1) * own] = 0
    copies = copies and low * block < outputs
    if copies:
        weights["y2"][outputs - low * block :] = np.eye(low * block).reshape(low * block, low * block, 1, 1)
        weights["y2_bias"][outputs - low * block :] = 0
    return BlockCase(sru_case(operator, channels, norm_groups, seed), fuse, groups, copies, weights)


def block_image(case: BlockCase, extents: tuple[int, int, int], seed: int = 0) -> dict[str, np.ndarray]:
    """x of (N, C, H, W), no value of which is on the edge of the gate, and what is added where the case adds."""
    n, h, w = extents
    given = {"x": image((n, case.channels, h, w), seed)}
    half = case.channels // 2
    while (on_edge := sru(case.unit, given["x"]).flips).any():
        given["x"][:, :half][on_edge] += 0.05
        given["x"][:, half:][on_edge] -= 0.05
    if "add" in case.fuse.split("_"):
        given["added"] = image((n, case.outputs, h, w), seed + 5)
    return given


def expected(case: BlockCase, given: Mapping[str, np.ndarray]) -> Expected:
    """In float64, with the size of the terms that every value was added from; ``flips`` is any flip at all."""
    unit = sru(case.unit, given["x"])
    w = {k: v.astype(np.float64) for k, v in case.weights.items()}
    y, size = np.concatenate(unit.values, 1), np.concatenate(unit.scales, 1)
    taken = w["squeeze_up"].shape[1]
    up, up_size = _convolved(y[:, :taken], size[:, :taken], w["squeeze_up"], w["squeeze_up_bias"])
    low, low_size = _convolved(y[:, taken:], size[:, taken:], w["squeeze_low"], w["squeeze_low_bias"])
    gwc, gwc_size = _convolved(up, up_size, w["gwc"], w["y1_bias"], case.groups)
    pwc1, pwc1_size = _convolved(up, up_size, w["pwc1"], np.zeros_like(w["y1_bias"]))
    y2, y2_size = _convolved(low, low_size, w["y2"], w["y2_bias"])
    y1, y1_size = gwc + pwc1, gwc_size + pwc1_size
    mixed = fuse(case.fuse, y1, y2, w["scale"], w["shift"], given.get("added"))
    kind = "_".join(case.fuse.split("_")[:2])
    shares = [_share(kind, y1, y2, first) for first in (True, False)]
    scale = np.abs(w["scale"]).reshape(-1, 1, 1) if "affine" in case.fuse.split("_") else 1.0
    # What rounding does to the means moves the weights by as much, in relative terms.
    moved = 1 + max(np.abs(y.mean(axis=(2, 3))).max(initial=0.0) for y in (y1, y2))
    total = mixed.scales[0] + scale * (y1_size * shares[0] + y2_size * shares[1]) * moved
    return Expected(mixed.values, (total,), np.full(total.shape, unit.flips.any()))


def _share(kind: str, y1: np.ndarray, y2: np.ndarray, first: bool) -> np.ndarray:
    """The softmax's weight of every channel of one branch, (N, C, 1, 1)."""
    means = [np.mean(y, axis=(2, 3), keepdims=True) for y in (y1, y2)]
    q = np.stack(means, 1)
    axes = 1 if kind.endswith("pair") else (1, 2)
    e = np.exp(q - q.max(axis=axes, keepdims=True))
    return (e / e.sum(axis=axes, keepdims=True))[:, 0 if first else 1]


def block_model(case: BlockCase, block: int, changed: Mapping[str, object] | None = None) -> onnx.ModelProto:
    """x (and what is added), in blocks -> out; ``changed`` attributes make broken twins."""
    flags = case.fuse.split("_")
    constants = {f"sru_{k}": v for k, v in case.unit.inputs().items()}
    for name in ("squeeze_up", "squeeze_low"):
        constants |= {name: packed(case.weights[name], block), f"{name}_bias": case.weights[f"{name}_bias"]}
    constants |= {k: packed(case.weights[k], block) for k in ("gwc", "pwc1")}
    constants |= {"y1_bias": case.weights["y1_bias"], "y2": packed(case.weights["y2"], block)}
    constants |= {k: case.weights[k] for k in ("y2_bias", *(("scale", "shift") if "affine" in flags else ()))}
    attributes: dict[str, object] = {
        "sru": case.unit.operator,
        "fuse": case.fuse,
        **case.unit.attributes(),
        "gwc_groups": case.groups,
        "kernel": case.kernel,
        "y2_copied_from": case.copied_from,
        "block": block,
    }
    images = ["x", *(["added"] if "add" in flags else [])]
    kept = {k: v for k, v in (attributes | dict(changed or {})).items() if v is not None}
    node = onnx.helper.make_node(
        "Block", ["x", *constants, *images[1:]], ["out"], name="block", domain=DOMAIN, **kept
    )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "block",
        [value(name, onnx.TensorProto.FLOAT, ["N", f"C_{name}", "H", "W"]) for name in images],
        [value("out", onnx.TensorProto.FLOAT, ["N", "C_out", "H", "W"])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(a, np.float32), n) for n, a in constants.items()],
    )
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    model.ir_version = 9
    return model


def packed(weight: np.ndarray, block: int) -> np.ndarray:
    """(O, I, k, k) -> (O / block, k, k, I, block)."""
    o, i, h, w = weight.shape
    return weight.reshape(o // block, block, i, h, w).transpose(0, 3, 4, 2, 1)


def _convolved(
    x: np.ndarray, size: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    def convolve(a: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        tensors = [torch.from_numpy(np.ascontiguousarray(t, np.float64)) for t in (a, w, b)]
        return conv2d(*tensors, padding=weight.shape[2] // 2, groups=groups).numpy()

    return convolve(x, weight, bias), convolve(size, np.abs(weight), np.abs(bias))
