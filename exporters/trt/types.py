"""Kernels -> the types that were really built: of the model, and per SCConv block for each role.

What a kernel keeps in registers is not logged; what it reads, writes and holds is. So a role's type is read from
the arguments of the kernels that hold its nodes (the roles are those of :mod:`scconv_deploy.graph.precision`):

* ``convolutions``: the lowest type each such kernel reads or holds, int8 and fp8 included; the widest of these
  kernels. A generated kernel counts only where no other one names the convolution.
* ``gate``, ``fuse``: the widest floating type these kernels read or hold. The island's normalised tensor and
  the pooled means come in from other kernels, so a gate in float32 shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from exporters.trt.layers import Kernel
from exporters.trt.report import TYPES, device_kernels, owners
from scconv_deploy.graph.precision import CONVOLUTIONS, is_product, lowest, role, settled, widest

GENERATED = "kgen"
"""Kind of a kernel that the builder wrote itself, pointwise mostly: the bias and the codes of an int8 convolution
are such, beside the kernel that multiplies, and name its node too."""


def roles_built(kernels: Sequence[Kernel], block_paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """Block path -> role -> type ("fp32", "fp16", ...); a role that no kernel names is left out.

    Raises:
        ValueError: a type that is not in :data:`exporters.trt.report.TYPES`.
    """
    found: dict[str, dict[str, set[str]]] = {path: {} for path in block_paths}
    device = device_kernels(kernels)
    multiplied = {n for k in device if k.kind != GENERATED for n in k.onnx_nodes}
    for kernel in device:
        types = _read(kernel)
        for path, roles in found.items():
            done = multiplied if kernel.kind == GENERATED else frozenset[str]()
            for what in {role(n, path) for n in kernel.onnx_nodes if not (is_product(n) and n in done)} - {
                None
            }:
                kind = lowest(types) if what == CONVOLUTIONS else widest(types)
                if what is not None and kind is not None:
                    roles.setdefault(what, set()).add(kind)
    return {path: settled(roles) for path, roles in found.items()}


def precision_built(kernels: Sequence[Kernel]) -> str:
    """The lowest type that a kernel with a convolution or matrix product reads or holds.

    In an engine without any, that of all kernels.
    """
    device = device_kernels(kernels)
    products = [k for k in device if any(is_product(n) for n in k.onnx_nodes)]
    return lowest(t for k in products or device for t in _read(k)) or "fp32"


def types_per_block(kernels: Sequence[Kernel], block_paths: Sequence[str]) -> dict[str, dict[str, int]]:
    """Block path -> type of a kernel's output -> number of the block's kernels that write it."""
    device = device_kernels(kernels)
    counts: dict[str, Counter[str]] = {path: Counter() for path in block_paths}
    for kernel, paths in zip(device, owners(device, block_paths), strict=True):
        for path in paths:
            counts[path].update({_name(t.dtype) for t in kernel.outputs})
    return {path: dict(sorted(found.items())) for path, found in counts.items()}


def _read(kernel: Kernel) -> set[str]:
    return {_name(t.dtype) for t in (*kernel.inputs, *kernel.constants)}


def _name(dtype: str) -> str:
    if dtype not in TYPES:
        raise ValueError(f"the layer log has the unknown type '{dtype}'")
    return TYPES[dtype][0]
