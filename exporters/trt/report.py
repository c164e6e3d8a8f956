"""Kernels -> the kernel report: how many, how many bytes, which types, and how many for each SCConv block.

This is the cost of an engine on any GPU, known without one. Counting rules:

* A kernel is what the engine launches on the device. Shape computations on the host (``shape_call``) are
  counted apart, stream synchronisation (``signal``, ``wait``) is not counted at all.
* Bytes: every distinct tensor among a kernel's inputs, outputs and constants, once per kernel. The log
  repeats a tensor that is read through two views (both channel halves, say) with its full size; counting
  it twice would charge a fused gate for the memory traffic it avoids.
* A layout transpose is a kernel that only moves data and leaves it in another memory order.
* A kernel belongs to a block if one of its ONNX nodes does. One without nodes, inserted by the builder,
  belongs where all its neighbours (the makers of its inputs and the users of its outputs) belong.

Measured on SCConv-ResNet-50 (F3 blocks, FP32, batch 1, SM89; TensorRT-RTX 1.7.1; 2026-11-22): plain ResNet-50
58 kernels and 217.6 MB, naive export 241 kernels and 293.1 MB (298.7 MB if repeated views count twice, which
is the rule behind the 299 MB of design/tensorrt.md).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from exporters.trt.layers import Kernel, KernelTensor
from scconv_deploy.artifacts import KernelReport

HOST_KINDS = frozenset({"shape_call"})
SYNCHRONISATION = frozenset({"signal", "wait"})
TYPES: Mapping[str, tuple[str, float]] = {
    "Float": ("fp32", 4),
    "Half": ("fp16", 2),
    "BFloat16": ("bf16", 2),
    "FP8": ("fp8", 1),
    "Int8": ("int8", 1),
    "UInt8": ("uint8", 1),
    "Bool": ("bool", 1),
    "Int32": ("int32", 4),
    "Int64": ("int64", 8),
    "Int4": ("int4", 0.5),
    "FP4": ("fp4", 0.5),
}
"""The log's name of a type -> ours, and bytes per element."""

_MOVES = frozenset({"Tran", "Move", "Conc", "Slic", "Resh"})


def report(
    kernels: Sequence[Kernel], block_paths: Sequence[str], at_optimum: Sequence[Kernel] | None = None
) -> KernelReport:
    """Summarise an engine.

    Args:
        kernels: of the engine itself.
        block_paths: module paths of the SCConv blocks; their nodes are named ``P/...`` or ``P.child/...``.
        at_optimum: kernels of the same graph built for its optimum shapes alone, from which bytes are
            taken where the engine's own dimensions are free. None where the engine is static.

    Raises:
        ValueError: a type that is not in :data:`TYPES`, or a free dimension in what should be static.
    """
    device = device_kernels(kernels)
    types: Counter[str] = Counter()
    for kernel in device:
        types.update(_type(t)[0] for t in (*kernel.outputs, *kernel.constants))
    measured = device if at_optimum is None else device_kernels(at_optimum)
    return KernelReport(
        kernels=len(device),
        bytes_moved=sum(kernel_bytes(k) for k in measured),
        layout_transposes=sum(is_layout_transpose(k) for k in device),
        types=dict(sorted(types.items())),
        kernels_per_block=kernels_per_block(device, block_paths),
        shape_kernels=sum(k.kind in HOST_KINDS for k in kernels),
    )


def device_kernels(kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
    """Only what is launched on the device."""
    return tuple(k for k in kernels if k.kind not in HOST_KINDS | SYNCHRONISATION)


def is_static(kernels: Sequence[Kernel]) -> bool:
    """Whether every dimension is known."""
    return all(-1 not in t.dimensions for k in device_kernels(kernels) for t in _arguments(k))


def kernel_bytes(kernel: Kernel) -> int:
    """Bytes of the kernel's distinct tensors. Raises ValueError for a free dimension."""
    total = 0.0
    for tensor in {t.name: t for t in _arguments(kernel)}.values():
        if -1 in tensor.dimensions:
            raise ValueError(f"tensor '{tensor.name}' of kernel '{kernel.name}' has a free dimension")
        total += math.prod(tensor.dimensions) * _type(tensor)[1]
    return math.ceil(total)


def is_layout_transpose(kernel: Kernel) -> bool:
    """Whether the kernel only moves data, into another memory order than it was read in."""
    # Generated kernels are named after what they do: "__myl_ConcTran_myl0_3" concatenates and transposes.
    generated = re.match(r"__myl_((?:[A-Z][a-z]+)+)_", kernel.name)
    moves = generated and set(re.findall(r"[A-Z][a-z]+", generated[1])) <= _MOVES
    if not moves and kernel.kind.lower() != "reformat":
        return False
    return any(_reordered(i, o) for i in kernel.inputs for o in kernel.outputs)


def kernels_per_block(kernels: Sequence[Kernel], block_paths: Sequence[str]) -> dict[str, int]:
    """Kernels of each block; one that works for several blocks counts for each of them."""
    found = owners(kernels, block_paths)
    return {path: sum(path in o for o in found) for path in block_paths}


def owners(kernels: Sequence[Kernel], block_paths: Sequence[str]) -> list[frozenset[str]]:
    """The blocks that each kernel works for, in the kernels' order."""
    found = [_owners(kernel, block_paths) for kernel in kernels]
    makers: dict[str, set[int]] = {}
    users: dict[str, set[int]] = {}
    for index, kernel in enumerate(kernels):
        for tensor in kernel.outputs:
            makers.setdefault(tensor.name, set()).add(index)
        for tensor in kernel.inputs:
            users.setdefault(tensor.name, set()).add(index)
    # In launch order, so that the second of two inserted kernels in a row finds the first one's owner.
    for index, kernel in enumerate(kernels):
        if not kernel.onnx_nodes:
            before = {i for t in kernel.inputs for i in makers.get(t.name, ())} - {index}
            after = {i for t in kernel.outputs for i in users.get(t.name, ())} - {index}
            around = [found[i] for i in sorted(before | after)]
            found[index] = frozenset.intersection(*around) if around else frozenset()
    return found


def _owners(kernel: Kernel, block_paths: Sequence[str]) -> frozenset[str]:
    return frozenset(
        path for path in block_paths if any(n.startswith((f"{path}/", f"{path}.")) for n in kernel.onnx_nodes)
    )


def _reordered(source: KernelTensor, result: KernelTensor) -> bool:
    rank = len(source.dimensions)
    if not rank == len(source.order) == len(result.dimensions) == len(result.order):
        return False
    # Axes of extent 1 have no place in memory.
    axes = [i for i in range(rank) if source.dimensions[i] != 1 and result.dimensions[i] != 1]
    return sorted(axes, key=source.order.__getitem__) != sorted(axes, key=result.order.__getitem__)


def _arguments(kernel: Kernel) -> tuple[KernelTensor, ...]:
    return (*kernel.inputs, *kernel.constants, *kernel.outputs)


def _type(tensor: KernelTensor) -> tuple[str, float]:
    if tensor.dtype not in TYPES:
        raise ValueError(f"tensor '{tensor.name}' has the unknown type '{tensor.dtype}'")
    return TYPES[tensor.dtype]
