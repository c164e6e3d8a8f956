"""Kernels and a card's public figures -> the least time the engine can take there: an estimate, not a measurement.

``time = sum over kernels of max(bytes / bandwidth, operations / rate)``. Operations are those of convolutions and
matrix products (two per multiply-add), from the dimensions of a kernel's weights and of its output; all else is bound
by memory. Real kernels reach neither roof, every launch adds a few microseconds, and what stays in the L2 cache costs
no bandwidth: so the figure compares forms and cards, and promises nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from exporters.trt.cards import Card
from exporters.trt.layers import Kernel, KernelTensor
from exporters.trt.report import TYPES, device_kernels, kernel_bytes
from scconv_deploy.artifacts import Roofline
from scconv_deploy.graph.precision import lowest

_KINDS = re.compile(r"corr|conv|gemm|matmul", re.IGNORECASE)
_GENERATED = re.compile(r"__myl_(?:[A-Z][a-z]+)*(?:Corr|Fc|Gemm|Conv)")
"""Generated kernels are named after what they do: ``__myl_CorrAdd_myl0_20``, ``__myl_FcRelu_myl0_125``."""


def roofline(kernels: Sequence[Kernel], card: Card) -> Roofline:
    """The estimate for static kernels (of the optimum shapes, where the engine's own are free).

    Raises:
        ValueError: a free dimension, or an unknown type.
    """
    time = memory = arithmetic = 0.0
    flops = 0
    device = device_kernels(kernels)
    for kernel in device:
        mine = kernel_flops(kernel)
        bytes_us = kernel_bytes(kernel) / card.bandwidth / 1e3
        flops_us = mine / card.rate(_type(kernel)) / 1e6
        time, memory, arithmetic = time + max(bytes_us, flops_us), memory + bytes_us, arithmetic + flops_us
        flops += mine
    words = (
        f"estimate, not measured: at least {_figure(time)} us on {card.name} from its public figures "
        f"({card.bandwidth:g} GB/s: {_figure(memory)} us; {_figure(flops / 1e9)} GFLOP: {_figure(arithmetic)} us); "
        f"{len(device)} launches come on top"
    )
    return Roofline(card.name, round(time, 2), round(memory, 2), round(arithmetic, 2), flops, words)


def _figure(value: float) -> str:
    """Whole from 10 on, else two digits: a small network's estimate is no zero."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def kernel_flops(kernel: Kernel) -> int:
    """Operations of a convolution or matrix product with constant weights; 0 for every other kernel."""
    weight = _weight(kernel)
    if weight is None or not kernel.outputs:
        return 0
    result = kernel.outputs[0].dimensions
    channels = result[1] if len(result) > 1 else result[0]
    per_output = math.prod(weight.dimensions) // max(channels, 1)
    return 2 * math.prod(result) * per_output


def _weight(kernel: Kernel) -> KernelTensor | None:
    """The largest constant, of a kernel that is a product.

    Told by its kind or generated name, not by its ONNX nodes: a kernel that only prepares a convolution's input is
    logged under that convolution, too.
    """
    if not _KINDS.search(kernel.kind) and not _GENERATED.match(kernel.name):
        return None
    matrices = [t for t in kernel.constants if len(t.dimensions) >= 2]
    return max(matrices, key=lambda t: math.prod(t.dimensions), default=None)


def _type(kernel: Kernel) -> str:
    """What a product multiplies: the lowest type it reads or holds."""
    return (
        lowest(TYPES[t.dtype][0] for t in (*kernel.inputs, *kernel.constants) if t.dtype in TYPES) or "fp32"
    )
